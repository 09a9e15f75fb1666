"""The version of the installed distribution."""

import importlib.metadata


def version() -> str:
    """Return the version, or "source" in a tree that is not installed."""
    try:
        return importlib.metadata.version("weir")
    except importlib.metadata.PackageNotFoundError:
        return "source"
