"""Background tasks of RAE: the job runner `rae-jobctl` and the library behind it."""

__version__ = "0.1.0"
