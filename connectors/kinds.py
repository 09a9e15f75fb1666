"""Kinds of files of flows: how a file is known to be of one, and what reads it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from connectors import layouts, table_file
from connectors.base import Source
from connectors.errors import SourceError
from connectors.layouts import LAYOUTS
from connectors.lines import TextFile
from connectors.sources import SOURCES, open_source

JSON, PARQUET = "json", "conn-parquet"
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
    together: bool = False  # several files are one source, whose class takes all of them

    def recognises(self, head: bytes) -> bool:
        """Say whether a file that begins so is of this kind."""
        return bool(import_module(self.recogniser or self.module).recognises(head))

    @property
    def open(self) -> Callable[..., Source]:
        """What makes a source of a path (`followed`: or a `TextFile`, `together`: of all) and `sensor`."""
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
    "nfdump": Kind(
        about="a binary file of nfdump, or its JSON",
        module="connectors.source_nfdump",
        source="NfdumpSource",
    ),
    "netflow": Kind(
        about="export datagrams of NetFlow v5, v9 or IPFIX, one a file",
        module="connectors.source_netflow",
        source="DatagramFiles",
        together=True,
    ),
    PARQUET: Kind(
        about="a Parquet file with the columns of conn@1",
        module="connectors.source_parquet",
        source="ParquetSource",
    ),
    JSON: Kind(
        about="JSON lines, which a mapping explains",
        module="connectors.source_json",
        source="JsonSource",
        followed=True,
    ),
}
"""Every kind of file but for the datasets of `SOURCES`."""


def kind_names() -> tuple[str, ...]:
    """Return the names that `open_file` takes: kinds, and datasets that are read from files."""
    return (*KINDS, *(name for name, entry in SOURCES.items() if entry.dataset))


def recognise(path: Path | TextFile) -> str:
    """Return the kind of a file, by its content.

    Raises
    ------
    SourceError
        If it cannot be read, or is of no kind that is known.
    """
    file = TextFile(path) if isinstance(path, Path) else path
    head = file.head()
    if head.startswith(b"PAR1"):
        with table_file.open_parquet(file.path) as parquet:
            names = parquet.schema_arrow.names
        found = next(iter(_of_table(names)), None)
        described = f"a Parquet file with the columns {', '.join(names[:6])} ..."
    else:
        found = next(iter(kinds_of(head)), None)
        described = f"it begins with {head[:SHOWN_BYTES]!r}" if head else "it is empty"
    if found is None:
        raise SourceError(
            f"{file.path}: of no known kind ({described}); expected one of {', '.join(kind_names())}; "
            "name it with --kind if it is one of them"
        )
    return found


def kinds_of(head: bytes) -> list[str]:
    """Return the kinds of which a file that begins so surely is; more than one would be a mistake of ours."""
    found = [name for name, kind in KINDS.items() if name != PARQUET and kind.recognises(head)]
    return found or _of_columns(layouts.first_names(head))


def _of_table(names: Sequence[str]) -> list[str]:
    """Return the kinds of a Parquet file by the names of its columns."""
    from connectors.source_parquet import recognises_columns

    return _of_columns(names) or ([PARQUET] if recognises_columns(names) else [])


def _of_columns(names: Sequence[str]) -> list[str]:
    """Return the dataset of a table by the names of its columns or, without names, by how many there are."""
    known = layouts.matching(names, LAYOUTS)
    known = known or next((k for k in LAYOUTS if k.headerless and len(k.columns) == len(names)), None)
    return [known.dataset] if known else []


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
    _check(plain, kind)
    if mapping is not None:
        return _mapped(path, mapping, kind, sensor)
    kind = kind or recognise(path)
    if kind in KINDS:
        return KINDS[kind].open([plain] if KINDS[kind].together else path, sensor=sensor)
    return open_source(kind, plain, sensor=sensor)


def open_files(
    paths: Sequence[Path], *, kind: str | None = None, sensor: str | None = None, mapping: str | None = None
) -> list[Source]:
    """Return files as sources; those of a kind that is read together are one, in place of the first.

    Raises
    ------
    SourceError
        If one cannot be read, or is not of this kind.
    """
    if mapping is not None:
        return [open_file(path, kind=kind, sensor=sensor, mapping=mapping) for path in paths]
    for path in paths:
        _check(path, kind)
    grouped: dict[tuple[str, Path | None], list[Path]] = {}
    for path in paths:
        found = kind or recognise(path)
        alone = not (found in KINDS and KINDS[found].together)
        grouped.setdefault((found, path if alone else None), []).append(path)
    return [
        open_file(group[0], kind=found, sensor=sensor) if alone else KINDS[found].open(group, sensor=sensor)
        for (found, alone), group in grouped.items()
    ]


def _check(path: Path, kind: str | None) -> None:
    if kind is not None and kind not in kind_names():
        raise SourceError(f"no kind {kind!r}; expected one of {', '.join(kind_names())}")
    if path.is_dir():
        raise SourceError(f"{path}: a folder, expected a file of flows; give the path of a file in it")


def _mapped(path: Path | TextFile, mapping: str, kind: str | None, sensor: str | None) -> Source:
    from connectors.mapping import load_mapping
    from connectors.source_json import JsonSource

    if kind not in (None, JSON):
        plain = path.path if isinstance(path, TextFile) else path
        raise SourceError(f"{plain}: a mapping is for JSON lines, not for kind {kind}; leave one of them out")
    return JsonSource(path, load_mapping(mapping), sensor=sensor)
