"""Contacts that call a public address by the clock: for a person to look at before they are normal.

A beacon in the traffic that is learned comes in no burst: its flows stay in, and later ones look normal. What
looks for updates, sets a clock or reports a measurement calls by the clock, too, and should be learned. So
nothing is left out here unless a person says so (`training.trimming.Trimming.without`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.features.conn import RHYTHM, RHYTHMS
from pipeline.publication import address_text
from training.datasets import Dataset
from training.splits import US_PER_S, Rows

REGULAR = RHYTHM.gaps / 2
"""From how many regular gaps on a flow comes by the clock."""

NAMED = 10
"""Contacts that are named."""

CONTACT = ("sensor", "src_ip", "dst_ip", "dst_port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A source and the public address and port that it calls."""

    source: str
    destination: str
    port: int | None
    flows: int  # that came by the clock
    every_s: float  # median time between them
    sources: int  # that call this destination at all, this one included


@dataclass(frozen=True, slots=True, kw_only=True)
class Regular:
    """How many contacts come by the clock, and those that fewest others share."""

    n: int
    named: tuple[Contact, ...]


def regular_contacts(dataset: Dataset, rows: Rows) -> Regular:
    """Return the contacts that come by the clock among some rows; none of a feature set without a rhythm."""
    rhythm = RHYTHMS[0].name
    if rhythm not in dataset.features.schema.names:
        return Regular(n=0, named=())
    flows = pa.Table.from_batches([dataset.take(rows).select([*CONTACT, "event_time", rhythm])])
    flows = flows.set_column(len(CONTACT), "event_us", flows["event_time"].cast(pa.int64()))
    called = flows.group_by("dst_ip", use_threads=False).aggregate([("src_ip", "count_distinct")])
    sources = {row["dst_ip"]: row["src_ip_count_distinct"] for row in called.to_pylist()}
    by_the_clock = flows.filter(pc.greater_equal(flows[rhythm], REGULAR))
    grouped = by_the_clock.group_by(list(CONTACT), use_threads=False).aggregate([("event_us", "list")])
    found = [_contact(row, sources[row["dst_ip"]]) for row in grouped.to_pylist()]
    found.sort(key=lambda contact: (contact.sources, -contact.flows, contact.source, contact.destination))
    return Regular(n=len(found), named=tuple(found[:NAMED]))


def _contact(row: Mapping[str, Any], sources: int) -> Contact:
    times = np.sort(np.array(row["event_us_list"]))
    gaps = np.diff(times) if times.size > 1 else np.zeros(1)
    return Contact(
        source=address_text(row["src_ip"]),
        destination=address_text(row["dst_ip"]),
        port=row["dst_port"],
        flows=int(times.size),
        every_s=float(np.median(gaps)) / US_PER_S,
        sources=sources,
    )
