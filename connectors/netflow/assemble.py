"""What a collector found as rows and rejects in order of position."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from connectors.base import Chunk, Reject
from connectors.netflow.conn import Context, Intervals, columns
from connectors.netflow.found import Found, FoundFault, FoundRecords
from connectors.netflow.rows import Ints, View
from connectors.netflow.times import Clock
from connectors.records import CONN


@dataclass(slots=True)
class _Group:
    """Records of one template and sampling, which are decoded together."""

    found: list[FoundRecords]
    firsts: list[int]  # position of the first record of each


def assemble(found: Sequence[Found], first: int) -> Chunk:
    """Return what was found as one chunk whose positions begin at `first`."""
    groups: dict[tuple[int, Intervals], _Group] = {}
    rejects: list[Reject] = []
    position = first
    for item in found:
        if isinstance(item, FoundFault):
            rejects.append(_reject(item, position))
        else:
            group = groups.setdefault((id(item.template), item.intervals), _Group([], []))
            group.found.append(item)
            group.firsts.append(position)
        position += item.n
    batches = []
    for group in groups.values():
        rows, bad = _decode(group)
        batches.append(rows)
        rejects += bad
    rejects.sort(key=lambda reject: reject.position)
    return Chunk(rows=_in_order(batches), first=first, next=position, rejects=tuple(rejects))


def _reject(fault: FoundFault, position: int) -> Reject:
    detail = f"{fault.origin.where}: {fault.detail}"
    return Reject(position=position, raw=fault.raw, reason=fault.reason, detail=detail)


def _in_order(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if not batches:
        return pa.RecordBatch.from_pylist([], CONN.schema)
    if len(batches) == 1:
        return batches[0]
    rows = pa.concat_batches(batches)
    return rows.take(pa.array(np.argsort(np.asarray(rows["position"]))))


def _decode(group: _Group) -> tuple[pa.RecordBatch, list[Reject]]:
    """Return the good records of a group as rows, the others as rejects."""
    found = group.found
    counts = np.array([item.n for item in found])
    positions = np.concatenate([first + np.arange(n) for first, n in zip(group.firsts, counts, strict=True)])
    view = View(found[0].template, b"".join(item.rows for item in found))
    context = Context(clock=_clock(found, counts), intervals=found[0].intervals)
    identity = {
        "sensor": _repeated([item.origin.sensor for item in found], counts),
        "flow_id": pa.array([flow_id for item in found for flow_id in flow_ids(item)], pa.string()),
        "position": pa.array(positions),
    }
    checked = CONN.check(pa.RecordBatch.from_pydict({**identity, **columns(view, context)}))
    begins = np.concatenate([[0], np.cumsum(counts)])
    rejects = []
    for bad in checked.bad:
        at = int(np.searchsorted(begins, bad.index, side="right")) - 1
        item, index = found[at], bad.index - int(begins[at])
        rejects.append(_bad_record(item, index, int(positions[bad.index]), bad.reason, bad.detail))
    return checked.rows, rejects


def _bad_record(item: FoundRecords, index: int, position: int, reason: str, detail: str) -> Reject:
    size = item.template.size
    raw = item.rows[index * size : (index + 1) * size] if item.raws is None else item.raws[index]
    where = f"{item.origin.where} set {item.number + 1} record {index + 1}"
    return Reject(position=position, raw=raw, reason=reason, detail=f"{where}: {detail}")


def _clock(found: list[FoundRecords], counts: Ints) -> Clock:
    def each(values: Iterable[int]) -> Ints:
        return np.repeat(np.fromiter(values, np.int64, len(found)), counts)

    return Clock(
        export_us=each(item.origin.export_us for item in found),
        uptime_ms=each(item.origin.uptime_ms for item in found),
        start_us=each(item.start_us for item in found),
    )


def _repeated(texts: list[str], counts: Ints) -> pa.Array:
    return pa.array(texts, pa.string()).take(pa.array(np.repeat(np.arange(len(texts)), counts)))


def flow_ids(item: FoundRecords) -> list[str]:
    """Return the ids of records: the same whenever the same datagram of an exporter is seen.

    They come from the header of the datagram (version, domain, sequence, times), the place of the
    record in it, and its bytes.
    """
    blake2b, salt, rows, size = hashlib.blake2b, item.origin.salt, item.rows, item.template.size
    begin = blake2b(item.origin.head + b"%d," % item.number, digest_size=10, salt=salt)
    ids = []
    for index in range(item.n):
        one = begin.copy()
        one.update(b"%d," % index + rows[index * size : (index + 1) * size])
        ids.append(one.hexdigest())
    return ids
