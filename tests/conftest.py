"""Fixtures that several suites share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the public datasets; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("WEIR_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"public datasets not found at {path}; set WEIR_DATA to their folder")
    return path
