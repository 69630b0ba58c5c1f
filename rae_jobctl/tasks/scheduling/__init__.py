"""Which requests are due: graph extraction for what waits in the queue, reflection where there was activity."""
