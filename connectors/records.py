"""Record types: the columns of a flow record, their units, and the check of every row.

A record type never changes its meaning within a major version; new columns are nullable. Readers
select columns by name and ignore extra ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.errors import RecordError

TIME = pa.timestamp("us", tz="UTC")
ADDRESS = pa.binary(16)
"""An IPv6 address, or an IPv4 address mapped into ::ffff:0:0/96."""

EARLIEST_US = 0
"""1970-01-01: exporters without a clock count from here; nothing lies before."""
LARGEST = float(np.finfo(np.float64).max)
LATEST_US = 4_102_444_800_000_000
"""2100-01-01: later times are broken clocks or milliseconds read as seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a record type."""

    name: str
    type: pa.DataType
    unit: str = ""
    nullable: bool = True
    minimum: float | None = None
    values: tuple[str, ...] = ()  # the only values allowed, where not empty
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that fails the check of its record type."""

    index: int  # in the checked batch
    reason: str  # short snake_case word
    detail: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The rows of a batch that are good, where they stood, and the others with their reasons."""

    rows: pa.RecordBatch
    kept: npt.NDArray[np.int64]  # index in the checked batch of each good row
    bad: tuple[BadRow, ...]


@dataclass(frozen=True, kw_only=True)
class RecordType:
    """A versioned set of columns.

    Examples
    --------
    >>> CONN.id
    'conn@1'
    >>> CONN.schema.field("duration").type
    DataType(double)
    """

    name: str
    version: int
    columns: tuple[Column, ...] = field(repr=False)

    @property
    def id(self) -> str:
        """Name and major version, as in the `weir-record` header."""
        return f"{self.name}@{self.version}"

    @cached_property
    def schema(self) -> pa.Schema:
        """Arrow schema: all columns in order."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    def select(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns of this type in order; nullable ones that are missing become null.

        Raises
        ------
        RecordError
            If a required column is missing or any column has another Arrow type.
        """
        arrays: list[pa.Array] = []
        names = batch.schema.names
        for column in self.columns:
            n_times = names.count(column.name)
            if n_times == 1:
                arrays.append(self._typed(column, batch.column(column.name)))
            elif n_times > 1:
                raise RecordError(
                    "repeated_column",
                    f"{self.id}: column {column.name} occurs {n_times} times, expected once",
                )
            elif column.nullable:
                arrays.append(pa.nulls(batch.num_rows, column.type))
            else:
                raise RecordError(
                    "missing_column",
                    f"{self.id}: column {column.name} ({column.type}) is required and missing",
                )
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _typed(self, column: Column, array: pa.Array) -> pa.Array:
        if array.type != column.type:
            raise RecordError(
                "mistyped_column",
                f"{self.id}: column {column.name} has type {array.type}, expected {column.type}",
            )
        return array

    def check(self, batch: pa.RecordBatch) -> Checked:
        """Split `batch` into good rows and bad ones, each bad one with its first reason.

        Parameters
        ----------
        batch : RecordBatch
            With the columns of this type; extra columns are dropped.

        Raises
        ------
        RecordError
            If the batch as a whole is not of this type (see `select`).
        """
        rows = self.select(batch)
        found: dict[int, BadRow] = {}
        for column, array in zip(self.columns, rows.columns, strict=True):
            if _is_clean(column, array):
                continue
            for reason, mask, expected in _faults(column, array):
                for index in np.flatnonzero(mask).tolist():
                    seen = _shown(array, index)
                    detail = f"{self.id}: {column.name} is {seen}, expected {expected}"
                    found.setdefault(index, BadRow(index=index, reason=reason, detail=detail))
        return _split(rows, found)


def _split(rows: pa.RecordBatch, found: dict[int, BadRow]) -> Checked:
    kept = np.arange(rows.num_rows, dtype=np.int64)
    if found:
        kept = np.delete(kept, sorted(found))
        rows = rows.take(pa.array(kept))
    return Checked(rows=rows, kept=kept, bad=tuple(found[i] for i in sorted(found)))


def _shown(array: pa.Array, index: int) -> str:
    value = array[index]
    if pa.types.is_timestamp(array.type):
        return f"{value.value} microseconds since 1970" if value.is_valid else "null"
    return repr(value.as_py())[:80] if value.is_valid else "null"


Mask = npt.NDArray[np.bool_]


def _is_clean(column: Column, array: pa.Array) -> bool:
    """Return whether a look at the whole column shows that every value is good; it may err on False."""
    if array.null_count and not column.nullable:
        return False
    if pa.types.is_string(column.type):
        return _is_clean_text(column, array)
    if column.type == TIME or column.minimum is not None:
        return len(array) == 0 or _is_in_range(column, array)
    return True


def _is_clean_text(column: Column, array: pa.Array) -> bool:
    if column.values:
        known = pc.all(pc.is_in(array, value_set=_values(column.values)), skip_nulls=False)
        return array.null_count == 0 and bool(known.as_py())
    if column.nullable or len(array) == 0:
        return True
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, 4 * array.offset)
    return bool((offsets[1:] > offsets[:-1]).all())


def _is_in_range(column: Column, array: pa.Array) -> bool:
    least, most = (EARLIEST_US, LATEST_US - 1) if column.type == TIME else (column.minimum, LARGEST)
    if column.type == TIME:
        array = array.view(pa.int64())
    if array.null_count:
        array = array.drop_null()
    values = array.to_numpy(zero_copy_only=False)
    # Written so that a value that is not a number is not in range.
    return not values.size or bool(values.min() >= least and values.max() <= most)


@cache
def _values(values: tuple[str, ...]) -> pa.Array:
    return pa.array(values, pa.string())


def _faults(column: Column, array: pa.Array) -> Sequence[tuple[str, Mask, str]]:
    """Return (reason, mask of bad rows, what was expected) for each fault that occurs."""
    faults: list[tuple[str, Mask, str]] = []
    if array.null_count and not column.nullable:
        mask = np.asarray(array.is_null(), dtype=np.bool_)
        faults.append(("null_value", mask, f"a value ({column.type})"))
    if pa.types.is_floating(column.type):
        faults += _float_faults(array)
    if column.minimum is not None:
        low = np.asarray(pc.fill_null(pc.less(array, column.minimum), fill_value=False), dtype=np.bool_)
        faults.append(("out_of_range", low, f"at least {column.minimum:g} {column.unit}".rstrip()))
    if column.type == TIME:
        us = np.asarray(pc.fill_null(array.cast(pa.int64()), EARLIEST_US))
        mask = (us < EARLIEST_US) | (us >= LATEST_US)
        faults.append(("absurd_time", mask, "a time from 1970 to 2099"))
    if column.values:
        known = pc.is_in(array, value_set=_values(column.values))
        mask = np.asarray(pc.and_not(array.is_valid(), known), dtype=np.bool_)
        faults.append(("unknown_value", mask, f"one of {', '.join(column.values)}"))
    if pa.types.is_string(column.type) and not column.nullable:
        mask = np.asarray(pc.fill_null(pc.equal(array, ""), fill_value=False), dtype=np.bool_)
        faults.append(("empty_value", mask, "a text that is not empty"))
    return [fault for fault in faults if fault[1].any()]


def _float_faults(array: pa.Array) -> list[tuple[str, Mask, str]]:
    finite = pc.is_finite(array)
    mask = ~np.asarray(pc.fill_null(finite, fill_value=True), dtype=np.bool_)
    return [("not_finite", mask, "a finite number")]


def _identity() -> tuple[Column, ...]:
    text = pa.string()
    return (
        Column(name="sensor", type=text, nullable=False, about="where the flow was observed"),
        Column(name="flow_id", type=text, nullable=False, about="unique within a sensor, from content"),
        Column(name="event_time", type=TIME, nullable=False, about="when the flow ended"),
        Column(name="src_ip", type=ADDRESS, about="originator"),
        Column(name="dst_ip", type=ADDRESS, about="responder"),
        Column(name="src_port", type=pa.uint16()),
        Column(name="dst_port", type=pa.uint16()),
        Column(name="protocol", type=text, about="transport protocol, lower case: tcp, udp, icmp ..."),
        Column(name="label", type=text, about="for evaluation only; no detector ever sees it"),
        Column(name="position", type=pa.int64(), minimum=0, about="index of the record in its source"),
    )


IDENTITY = tuple(column.name for column in _identity())


def _number(name: str, unit: str, *, nullable: bool = False) -> Column:
    return Column(name=name, type=pa.float64(), unit=unit, nullable=nullable, minimum=0)


def _count(name: str, unit: str = "", *, nullable: bool = False) -> Column:
    return Column(name=name, type=pa.int64(), unit=unit, nullable=nullable, minimum=0)


def _text(name: str, *, nullable: bool = False) -> Column:
    return Column(name=name, type=pa.string(), nullable=nullable)


STATES = ("established", "attempted", "rejected", "reset", "other")
FAILED_STATES = ("attempted", "rejected")

CONN = RecordType(
    name="conn",
    version=1,
    columns=(
        *_identity(),
        _number("duration", "s"),
        _count("src_bytes", "bytes"),
        _count("dst_bytes", "bytes", nullable=True),
        _count("src_packets", "packets"),
        _count("dst_packets", "packets", nullable=True),
        _text("service", nullable=True),
        Column(name="state", type=pa.string(), nullable=False, values=STATES),
    ),
)
"""A flow as Zeek, Suricata, Argus, NetFlow or a capture gives it; null `dst_*` = seen one-way."""

_KDD_COUNTS = [
    "wrong_fragment",
    "urgent",
    "hot",
    "num_failed_logins",
    "logged_in",
    "num_compromised",
    "root_shell",
    "su_attempted",
    "num_root",
    "num_file_creations",
    "num_shells",
    "num_access_files",
    "num_outbound_cmds",
    "is_host_login",
    "is_guest_login",
    "count",
    "srv_count",
]
_KDD_RATES = [
    "serror_rate",
    "srv_serror_rate",
    "rerror_rate",
    "srv_rerror_rate",
    "same_srv_rate",
    "diff_srv_rate",
    "srv_diff_host_rate",
]
_KDD_HOST_RATES = [
    "dst_host_same_srv_rate",
    "dst_host_diff_srv_rate",
    "dst_host_same_src_port_rate",
    "dst_host_srv_diff_host_rate",
    "dst_host_serror_rate",
    "dst_host_srv_serror_rate",
    "dst_host_rerror_rate",
    "dst_host_srv_rerror_rate",
]

KDD = RecordType(
    name="kdd",
    version=1,
    columns=(
        *_identity(),
        _number("duration", "s"),
        _text("protocol_type"),
        _text("service"),
        _text("flag"),
        _count("src_bytes", "bytes"),
        _count("dst_bytes", "bytes"),
        _count("land"),
        *(_count(name) for name in _KDD_COUNTS),
        *(_number(name, "ratio") for name in _KDD_RATES),
        _count("dst_host_count"),
        _count("dst_host_srv_count"),
        *(_number(name, "ratio") for name in _KDD_HOST_RATES),
    ),
)
"""The 41 columns of KDD Cup 1999 and NSL-KDD, in their order, under their names."""

UNSW = RecordType(
    name="unsw",
    version=1,
    columns=(
        *_identity(),
        _number("dur", "s"),
        _text("proto"),
        _text("service"),
        _text("state"),
        _count("spkts", "packets"),
        _count("dpkts", "packets"),
        _count("sbytes", "bytes"),
        _count("dbytes", "bytes"),
        _count("sttl", "hops"),
        _count("dttl", "hops"),
        _number("sload", "bit/s"),
        _number("dload", "bit/s"),
        _count("sloss", "packets"),
        _count("dloss", "packets"),
        _number("sinpkt", "ms"),
        _number("dinpkt", "ms"),
        _number("sjit", "ms"),
        _number("djit", "ms"),
        _count("swin"),
        _count("dwin"),
        _count("stcpb"),
        _count("dtcpb"),
        _number("tcprtt", "s"),
        _number("synack", "s"),
        _number("ackdat", "s"),
        _count("smean", "bytes"),
        _count("dmean", "bytes"),
        _count("trans_depth"),
        _count("response_body_len", "bytes"),
        *(
            _count(name, nullable=True)
            for name in [
                "is_sm_ips_ports",
                "ct_state_ttl",
                "ct_flw_http_mthd",
                "is_ftp_login",
                "ct_ftp_cmd",
                "ct_srv_src",
                "ct_srv_dst",
                "ct_dst_ltm",
                "ct_src_ltm",
                "ct_src_dport_ltm",
                "ct_dst_sport_ltm",
                "ct_dst_src_ltm",
            ]
        ),
    ),
)
"""The columns that the raw UNSW-NB15 files and its partition share, under the partition's names."""

RECORD_TYPES: dict[str, RecordType] = {record_type.id: record_type for record_type in (CONN, KDD, UNSW)}
