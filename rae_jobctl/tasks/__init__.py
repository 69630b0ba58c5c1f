"""The tasks themselves: no command line, no Kubernetes."""
