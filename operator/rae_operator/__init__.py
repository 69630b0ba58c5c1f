"""The operator that turns request custom resources into Jobs and reports on them."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("rae-tasks")
except PackageNotFoundError:
    __version__ = "0.0.0"
