"""Folders of files that are complete or not there, and that are read only if no byte has changed.

A folder holds `manifest.json`, which lists the SHA-256 of every other file, and `manifest.sha256`,
which holds that of the manifest, in the form that `sha256sum -c` reads.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import BundleError

MANIFEST = "manifest.json"
CHECKSUM = "manifest.sha256"
PARTIAL = ".partial-"
"""How the name of a folder begins that is being written, or was when its writer died."""

STALE_S = 24 * 3600.0
"""A folder that nobody has written to for so long has no writer any more: writing takes seconds."""

READABLE = 0o755
COPY_AGAIN = "copy the whole bundle again or train the model again"


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder as it was read: every file checked."""

    manifest: Mapping[str, Any]
    sha256: str  # of the manifest, and so of everything
    files: Mapping[str, bytes]


def write_folder(parent: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Path:
    """Write a folder under the next free number in `parent`: all of it, or nothing that is seen.

    `manifest` becomes manifest.json, with the entries `version` and `files` added.

    Raises
    ------
    BundleError
        If the disk does not take it.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        with _partial(parent) as temporary:
            for name, content in files.items():
                _write(temporary / name, content)
            return _numbered(temporary, parent, {**manifest, "files": _sums(files)})
    except OSError as error:
        raise BundleError(
            f"{parent} cannot be written ({error.strerror}); give a folder with space that you may write to"
        ) from error


def _numbered(temporary: Path, parent: Path, manifest: Mapping[str, Any]) -> Path:
    """Give a finished folder its manifest and the next free number as its name."""
    while True:
        path = parent / str(version := next_version(parent))
        _write_manifest(temporary, {**manifest, "version": version})
        try:
            temporary.rename(path)
        except OSError:
            if not path.exists():
                raise
            continue  # another writer took this number: the next one
        _sync(parent)
        return path


def versions(parent: Path) -> list[int]:
    """Return the versions in a model's folder, rising."""
    if not parent.is_dir():
        return []
    return sorted(int(p.name) for p in parent.iterdir() if p.name.isdecimal() and p.is_dir())


def next_version(parent: Path) -> int:
    """Return the number after the newest version: 1 for the first."""
    return max(versions(parent), default=0) + 1


def _sums(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: _sha256(content) for name, content in sorted(files.items())}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sweep(parent: Path) -> None:
    """Remove what writers that were killed have left behind, and nothing that may still be written."""
    for left in parent.glob(f"{PARTIAL}*"):
        with suppress(OSError):  # another writer sweeps, too
            newest = max(path.stat().st_mtime for path in (left, *left.iterdir()))
            if left.is_dir() and not left.is_symlink() and time.time() - newest > STALE_S:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _partial(parent: Path) -> Iterator[Path]:
    """Give an empty folder in `parent` that is gone afterwards, unless it was renamed."""
    temporary = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=parent))
    try:
        temporary.chmod(READABLE)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    content = json.dumps(manifest, indent=1, allow_nan=False).encode()
    _write(folder / MANIFEST, content)
    _write(folder / CHECKSUM, f"{_sha256(content)}  {MANIFEST}\n".encode())
    _sync(folder)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the names in a folder last through a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the manifest of a folder and its SHA-256.

    Raises
    ------
    BundleError
        If it is missing, changed or no manifest.
    """
    content = _read(folder, MANIFEST)
    seen = _sha256(content)
    if _read(folder, CHECKSUM) != f"{seen}  {MANIFEST}\n".encode():
        raise BundleError(f"{folder / MANIFEST} does not have the SHA-256 in {CHECKSUM}; {COPY_AGAIN}")
    try:
        manifest = json.loads(content)
        manifest["files"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{folder / MANIFEST} is no manifest of a bundle; {COPY_AGAIN}") from error
    return manifest, seen


def read_folder(folder: Path) -> Folder:
    """Return all files of a folder, each as its manifest says.

    Raises
    ------
    BundleError
        If a file is missing or one byte of it has changed; the message names the file.
    """
    manifest, sha256 = read_manifest(folder)
    files: dict[str, bytes] = {}
    for name, expected in manifest["files"].items():
        files[name] = _read(folder, name)
        if _sha256(files[name]) != expected:
            raise BundleError(f"{folder / name} does not have the SHA-256 in {MANIFEST}; {COPY_AGAIN}")
    return Folder(manifest=manifest, sha256=sha256, files=files)


def _read(folder: Path, name: str) -> bytes:
    if Path(name).name != name:
        raise BundleError(f"{folder / MANIFEST} names the file {name!r}, expected one in the same folder")
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder / name} cannot be read ({error.strerror}); {COPY_AGAIN}") from error
