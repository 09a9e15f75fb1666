"""Flows as lines of JSON in a file, mapped to conn@1 by a mapping file.

Which end of a flow is its source, and which bytes are counted, is as the records have it: the notes of the
mapping say so. A line is one JSON object; an array of several is no record.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from connectors.errors import SourceError
from connectors.json_flows import FlowReader, flow_ids, mapping_notes
from connectors.lines import TextFile
from connectors.mapping import PRESETS, FlowMapping, load_mapping
from connectors.source_lines import LineSource, Parsed
from connectors.table_fields import Fields

NAME = "json"

_RECOGNISED = ("goflow2", "packetbeat", "ecs")
"""Presets whose records are like no others; Suricata's and Zeek's files have sources of their own."""
_NEEDED = ("event_time", "duration", "src_ip", "src_bytes", "src_packets")
_PROBED = 20


class JsonSource(LineSource):
    """Flows of a file of JSON lines; see `LineSource`.

    Objects without an id of their own get one from the file's first record, the line and its bytes.

    Parameters
    ----------
    path : Path or TextFile
        The file, plain or gzipped; a `TextFile` where it is still written to.
    mapping : FlowMapping, optional
        What stands where; may be left out for records that `recognises` knows.
    sensor : str, optional
        Where all flows were observed; it wins over what the mapping takes from the records.

    Raises
    ------
    SourceError
        If the file is missing or broken, or its first lines are no flows by the mapping.
    """

    def __init__(
        self,
        path: Path | TextFile,
        mapping: FlowMapping | None = None,
        *,
        sensor: str | None = None,
    ) -> None:
        file = TextFile(path) if isinstance(path, Path) else path
        mapping = mapping or _known(file)
        reader = FlowReader(mapping, sensor=sensor, default_sensor=NAME)
        self._salt = b""
        super().__init__(file, lambda: _JsonLines(reader, mapping, self._salt), sensor=reader.sensor)
        self._salt = hashlib.blake2b(self.source_id.encode(), digest_size=16).digest()
        identity = self.source_id.encode() + mapping.digest
        self.source_id = hashlib.blake2b(identity, digest_size=10).hexdigest()


class _JsonLines:
    """The lines of a file of JSON objects."""

    name = NAME
    about = "JSON lines, one flow each, as the mapping says"
    headers: tuple[bytes, ...] = ()

    def __init__(self, reader: FlowReader, mapping: FlowMapping, salt: bytes) -> None:
        self.notes = mapping_notes(mapping)
        self._reader = reader
        self._salt = salt
        self._columns: Mapping[str, pa.Array] = {}
        self._texts: Sequence[bytes] = ()

    def take_header(self, line: bytes) -> None:
        """Do nothing: there are no headers."""

    def parse(self, lines: Sequence[bytes]) -> Parsed:
        """Read the lines; the columns are those of conn@1 already."""
        flows = self._reader.parse(lines)
        self._columns = flows.columns
        self._texts = [lines[row] for row in flows.rows]
        return Parsed(rows=flows.rows, columns={}, faults=flows.faults)

    def convert(self, fields: Fields) -> Mapping[str, pa.Array]:
        """Return the columns of the lines that were parsed last, every flow with an id."""
        positions = fields.positions.tolist()
        ids = flow_ids(self._columns["flow_id"], positions, self._texts, self._salt)
        return {**self._columns, "flow_id": ids}


def preset_of(head: bytes) -> str | None:
    """Return the name of the preset by which the first complete lines of a file surely are flows."""
    lines = [line for line in head.split(b"\n")[:-1] if line.strip()][:_PROBED]
    return next((name for name in _RECOGNISED if _fits(name, lines)), None)


def recognises(head: bytes) -> bool:
    """Return whether the first bytes of a file are JSON lines of an exporter that weir knows."""
    return preset_of(head) is not None


def _fits(name: str, lines: Sequence[bytes]) -> bool:
    flows = FlowReader(load_mapping(name), default_sensor=NAME).parse(lines)
    found = [flows.columns[column] for column in _NEEDED]
    # Some broken lines do not make it another kind of file.
    return len(flows.rows) > len(flows.faults) and not any(column.null_count for column in found)


def _known(file: TextFile) -> FlowMapping:
    name = preset_of(file.head())
    if name is None:
        raise SourceError(
            f"{file.path}: no JSON lines of {', '.join(_RECOGNISED)}; say with a mapping what stands where "
            f"(a file, or one of the names {', '.join(PRESETS)})"
        )
    return load_mapping(name)
