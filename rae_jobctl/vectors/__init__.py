"""The vector store, Qdrant: settings and the few calls that the tasks need."""
