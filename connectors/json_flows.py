"""Texts of JSON objects turned into columns of conn@1, as a mapping says."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.flow_states import states_of
from connectors.json_columns import read
from connectors.json_paths import Fault, Path_, Picker
from connectors.json_values import Values
from connectors.labels import label_of
from connectors.mapping import FlowMapping, Place
from connectors.protocols import PORT_PROTOCOLS, protocol_name
from connectors.records import LATEST_US, TIME
from connectors.table_fields import renamed

_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFlows:
    """The flows among some texts; texts that are neither in `rows` nor in `faults` are no flows."""

    rows: Sequence[int]  # index of each flow among the texts, ascending
    columns: Mapping[str, pa.Array]  # conn@1 without position; null flow_id: the record has none
    faults: Mapping[int, Fault]  # by index among the texts


class FlowReader:
    """Reads JSON objects as flows.

    Parameters
    ----------
    mapping : FlowMapping
        What stands where.
    sensor : str, optional
        Where all flows were observed; it wins over what mapping and objects say.
    default_sensor : str
        The sensor where nothing says one.
    """

    def __init__(self, mapping: FlowMapping, *, sensor: str | None = None, default_sensor: str) -> None:
        self.sensor = sensor or mapping.sensor or default_sensor
        self._mapping = mapping
        self._own_sensor = sensor is None
        self._picker = Picker(mapping.paths)

    def parse(self, texts: Sequence[bytes]) -> JsonFlows:
        """Return the flows among some texts."""
        objects, rows, faults = self._picker.parse(texts)
        picked = self._picker.pick(objects)
        if self._mapping.where:
            wanted = _wanted(picked, self._mapping.where)
            rows = [rows[i] for i in wanted]
            picked = {path: [column[i] for i in wanted] for path, column in picked.items()}
        values = Values(picked, len(rows))
        columns = self._columns(values)
        faults |= {rows[row]: fault for row, fault in values.faults.items()}
        if values.faults:
            kept = np.delete(np.arange(len(rows)), list(values.faults))
            columns = {name: column.take(pa.array(kept)) for name, column in columns.items()}
            rows = [rows[i] for i in kept.tolist()]
        return JsonFlows(rows=rows, columns=columns, faults=faults)

    def _columns(self, values: Values) -> dict[str, pa.Array]:
        def column(name: str, kind: pa.DataType) -> pa.Array:
            place = self._mapping.columns.get(name)
            return pa.nulls(len(values), kind) if place is None else _read(values, name, place).cast(kind)

        protocol = _renamed(column("protocol", pa.string()), protocol_name)
        has_ports = pc.fill_null(pc.is_in(protocol, pa.array(PORT_PROTOCOLS)), fill_value=False)
        has_ports = pc.or_(has_ports, protocol.is_null())
        src_packets, dst_packets = (column(f"{end}_packets", pa.int64()) for end in ("src", "dst"))
        derived = states_of(protocol, column("tcp_flags", pa.int64()), src_packets, dst_packets)
        event_time, duration = _times(*(column(*of) for of in _TIME_COLUMNS))
        sensor = column("sensor", pa.string()) if self._own_sensor else pa.nulls(len(values), pa.string())
        return {
            "sensor": pc.fill_null(sensor, self.sensor),
            "flow_id": column("flow_id", pa.string()),
            "event_time": event_time.cast(TIME),
            "src_ip": column("src_ip", pa.binary(16)),
            "dst_ip": column("dst_ip", pa.binary(16)),
            "src_port": pc.if_else(has_ports, column("src_port", pa.uint16()), None),
            "dst_port": pc.if_else(has_ports, column("dst_port", pa.uint16()), None),
            "protocol": protocol,
            "label": _renamed(column("label", pa.string()), label_of),
            "duration": duration,
            "src_bytes": column("src_bytes", pa.int64()),
            "dst_bytes": column("dst_bytes", pa.int64()),
            "src_packets": src_packets,
            "dst_packets": dst_packets,
            "service": _renamed(column("service", pa.string()), str.lower),
            "state": pc.coalesce(_renamed(column("state", pa.string()), str.lower), derived),
        }


_TIME_COLUMNS = (("event_time", pa.int64()), ("start_time", pa.int64()), ("duration", pa.float64()))


def flow_ids(given: pa.Array, positions: Iterable[int], texts: Iterable[bytes], salt: bytes) -> pa.Array:
    """Return the ids of flows; those that have none get a hash of position and text.

    Parameters
    ----------
    given : Array of string, shape (n,)
        Null: none.
    positions, texts : iterables, n each
        Of the records in their source.
    salt : bytes
        16 bytes that name the source.
    """
    if given.null_count == 0:
        return given
    blake2b = hashlib.blake2b
    made = [
        blake2b(b"%d," % position + text, digest_size=10, salt=salt).hexdigest()
        for position, text in zip(positions, texts, strict=True)
    ]
    return pc.coalesce(given, pa.array(made, pa.string()))


def mapping_notes(mapping: FlowMapping) -> tuple[str, ...]:
    """Return what a reader of mapped flows must know."""
    sizes = mapping.columns["src_bytes"]
    direction = "seen one-way" if mapping.one_way else "of both directions"
    return (
        f"Source and destination are as the records name them, {direction}.",
        f"Bytes are as they stand at {'.'.join(sizes.path) or 'no path'}: the exporter's choice what counts.",
        *mapping.notes,
    )


def _wanted(picked: Mapping[Path_, Sequence[object]], where: Mapping[Path_, tuple[str, ...]]) -> list[int]:
    """Return which objects have one of the words at every path."""
    columns = [[_word(value) in words for value in picked[path]] for path, words in where.items()]
    return [i for i, found in enumerate(zip(*columns, strict=True)) if all(found)]


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(values: Values, name: str, place: Place) -> pa.Array:
    """Return one column from the first place that has a value."""
    found = [array for at in place.chain() for array in _candidates(values, name, at)]
    return pc.coalesce(*found) if len(found) > 1 else found[0]


def _candidates(values: Values, name: str, place: Place) -> list[pa.Array]:
    candidates = []
    if place.path:
        array = read(values, name, place.path, place.unit)
        candidates.append(_renamed(array, _vocabulary(place.values)) if place.values else array)
    if place.default is not None:
        alone = Values({("default",): [place.default]}, 1)
        default = read(alone, name, ("default",), place.unit)
        candidates.append(default.take(pa.array(np.zeros(len(values), dtype=np.int64))))
    return candidates


def _vocabulary(words: Mapping[str, str]) -> Callable[[str], str]:
    ours = {word.lower(): our for word, our in words.items()}
    return lambda word: ours.get(word.lower(), ours.get("*", word))


def _renamed(column: pa.Array, rename: Callable[[str], str | None]) -> pa.Array:
    return renamed(column, lambda word: rename(word) or None)


def _times(end: pa.Array, start: pa.Array, duration: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return when flows ended, in microseconds since 1970, and how long they took, in seconds.

    Each is computed from the other two where it is missing.
    """
    duration = pc.coalesce(duration, pc.divide(pc.subtract(end, start).cast(pa.float64()), float(_SECOND_US)))
    seconds = np.nan_to_num(np.asarray(pc.fill_null(duration, 0.0), dtype=np.float64), nan=0.0)
    most = LATEST_US / _SECOND_US
    took = np.rint(np.clip(seconds, -most, most) * _SECOND_US).astype(np.int64)
    took_us = pc.if_else(duration.is_valid(), pa.array(took), None)
    return pc.coalesce(end, pc.add(start, took_us)), duration
