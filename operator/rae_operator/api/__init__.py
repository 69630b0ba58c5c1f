"""The API of the group tasks.rae.dev as typed models: the one source of the CRDs and of what the operator reads and writes."""

GROUP = "tasks.rae.dev"
VERSION = "v1alpha1"
CATEGORY = "rae"
