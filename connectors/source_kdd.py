"""NSL-KDD and KDD Cup 1999 as records of type kdd@1."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from connectors.layouts import KDD99 as KDD99_LAYOUT
from connectors.layouts import NSL_KDD as NSL_KDD_LAYOUT
from connectors.layouts import Layout
from connectors.records import KDD
from connectors.source_table import Dataset, feature_columns, synthetic_times
from connectors.table_fields import Fields

START_US = 946_684_800_000_000
"""2000-01-01: no record of these sets has a time; this one cannot be taken for a real one."""


def _convert(fields: Fields, _layout: Layout) -> Mapping[str, pa.Array]:
    label = pc.utf8_rtrim(fields.text("label"), ".")
    return {
        **feature_columns(fields, KDD),
        "event_time": synthetic_times(fields, START_US),
        "protocol": pc.utf8_lower(fields.text("protocol_type")),
        "label": pc.if_else(pc.equal(label, ""), None, label),
    }


def _notes(_layout: Layout) -> tuple[str, ...]:
    return (
        "Event times are synthetic: 2000-01-01T00:00:00Z and 10 ms for each record; the set has none.",
        "The set has no addresses, so alerts name the sensor only.",
    )


NSL_KDD = Dataset(name="nsl-kdd", record_type=KDD, layouts=(NSL_KDD_LAYOUT,), convert=_convert, notes=_notes)
"""41 columns, label, difficulty (never a feature; not read). Rows are shuffled: order means nothing."""

KDD99 = Dataset(name="kdd99", record_type=KDD, layouts=(KDD99_LAYOUT,), convert=_convert, notes=_notes)
"""41 columns and a label with a trailing dot, in the order of time."""
