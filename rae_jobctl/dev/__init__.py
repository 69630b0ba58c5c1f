"""What a laptop, a demo or a test needs beside the tasks: RAE's own tables and example memories."""
