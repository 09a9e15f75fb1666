"""Kinds of files of flows: how a file is known to be of one, and what reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from connectors import layouts, table_file
from connectors.base import Source
from connectors.errors import SourceError
from connectors.layouts import LAYOUTS
from connectors.lines import TextFile
from connectors.sources import SOURCES, open_source

JSON = "json"
"""Kind of a file of JSON lines, which a mapping explains."""
SHOWN_BYTES = 32
"""Bytes of an unknown file that a message shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file."""

    about: str
    module: str  # imported when it is needed; tells by `recognises(head)` whether a file is of the kind
    source: str  # its class, made of a path and a sensor
    recogniser: str = ""  # the module that recognises, where it is another one
    followed: bool = False  # a log, whose class takes a `TextFile` as well

    def recognises(self, head: bytes) -> bool:
        """Say whether a file that begins so is of this kind."""
        return bool(import_module(self.recogniser or self.module).recognises(head))

    @property
    def open(self) -> Callable[..., Source]:
        """What makes a source of a path, or of a `TextFile`, and `sensor`."""
        opened: Callable[..., Source] = getattr(import_module(self.module), self.source)
        return opened


KINDS: dict[str, Kind] = {
    "zeek": Kind(
        about="Zeek's conn.log, columns or JSON",
        module="connectors.source_zeek",
        source="ZeekSource",
        followed=True,
    ),
    "suricata": Kind(
        about="Suricata's eve.json, its flow events",
        module="connectors.source_suricata",
        source="SuricataSource",
        followed=True,
    ),
    "pcap": Kind(
        about="a capture, pcap or pcapng",
        module="connectors.source_pcap",
        recogniser="connectors.capture_file",
        source="PcapSource",
    ),
    "argus": Kind(
        about="Argus flows as comma text, with a header",
        module="connectors.source_argus",
        source="ArgusSource",
    ),
    "cic": Kind(
        about="CICFlowMeter flows as comma text, with a header",
        module="connectors.source_cic",
        source="CicSource",
    ),
}
"""Every kind of file but for the datasets of `SOURCES`; the more telling beginnings come first."""


def kind_names() -> tuple[str, ...]:
    """Return the names that `open_file` takes: kinds, and datasets that are read from files."""
    return (*KINDS, *(name for name, entry in SOURCES.items() if entry.dataset))


def recognise(path: Path) -> str:
    """Return the kind of a file, by its content.

    Raises
    ------
    SourceError
        If it cannot be read, or is of no kind that is known.
    """
    head = TextFile(path).head()
    if head.startswith(b"PAR1"):
        names = table_file.parquet_names(path)
        found = _of_columns(names)
        described = f"a Parquet file with the columns {', '.join(names[:6])} ..."
    else:
        found = next((name for name, kind in KINDS.items() if kind.recognises(head)), None)
        found = found or _of_columns(layouts.first_names(head))
        described = f"it begins with {head[:SHOWN_BYTES]!r}" if head else "it is empty"
    if found is None:
        raise SourceError(
            f"{path}: of no known kind ({described}); expected one of {', '.join(kind_names())}; "
            "name it with --kind if it is one of them"
        )
    return found


def _of_columns(names: list[str]) -> str | None:
    """Return the kind of a table by the names of its columns or, without names, by how many there are."""
    known = layouts.matching(names, LAYOUTS)
    known = known or next((k for k in LAYOUTS if k.headerless and len(k.columns) == len(names)), None)
    return known.dataset if known else None


def open_file(
    path: Path | TextFile, *, kind: str | None = None, sensor: str | None = None, mapping: str | None = None
) -> Source:
    """Return a file as a source of flows.

    Parameters
    ----------
    path : Path or TextFile
        The file; a `TextFile` for the kinds that can be followed.
    kind : str, optional
        One of `kind_names()`; default: recognised by content.
    sensor : str, optional
        Where the flows were observed; default: the name of the kind.
    mapping : str, optional
        Of JSON lines: a file that says which value is which column, or the name of a preset.

    Raises
    ------
    SourceError
        If it cannot be read, or is not of this kind.
    """
    plain = path.path if isinstance(path, TextFile) else path
    if mapping is not None:
        return _mapped(plain, mapping, kind, sensor)
    kind = kind or recognise(plain)
    if kind in KINDS:
        return KINDS[kind].open(path, sensor=sensor)
    if kind not in kind_names():
        raise SourceError(f"no kind {kind!r}; expected one of {', '.join(kind_names())}")
    return open_source(kind, plain, sensor=sensor)


def _mapped(path: Path, mapping: str, kind: str | None, sensor: str | None) -> Source:
    from connectors.mapping import load_mapping
    from connectors.source_json import JsonSource

    if kind not in (None, JSON):
        raise SourceError(f"{path}: a mapping is for JSON lines, not for kind {kind}; leave one of them out")
    return JsonSource(path, load_mapping(mapping), sensor=sensor)
