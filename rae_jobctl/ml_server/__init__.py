"""A small HTTP server of RAE's ML service API, for installations whose RAE no longer has one (docs/serve-ml.md)."""
