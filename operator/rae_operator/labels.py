"""Labels that tie a Job and its pods to their request."""

from __future__ import annotations

KIND = "tasks.rae.dev/kind"
REQUEST = "tasks.rae.dev/request"
REQUEST_UID = "tasks.rae.dev/request-uid"
ATTEMPT = "tasks.rae.dev/attempt"
JOB_NAME = "batch.kubernetes.io/job-name"
KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"

#: The one container of a task's pod that counts; others are what an installation adds.
CONTAINER = "task"
