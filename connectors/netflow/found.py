"""What a collector finds in datagrams: records and faults, each with where it stood."""

from dataclasses import dataclass

from connectors.netflow.conn import Intervals
from connectors.netflow.templates import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The datagram that something was found in."""

    sensor: str
    salt: bytes  # of the ids of its exporter's flows, 16 bytes
    where: str  # how a person finds it: the file, or the exporter and the sequence number
    head: bytes = b""  # the header, which no two datagrams of an exporter share
    export_us: int = 0
    uptime_ms: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRecords:
    """Records of flows of one data set."""

    origin: Origin
    template: Template
    rows: bytes  # n records in the template's fixed layout
    raws: tuple[bytes, ...] | None  # the records as they stood, where that is another form
    n: int
    number: int  # of the set in its datagram, from 0
    start_us: int  # when the exporter started, or -1
    intervals: Intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFault:
    """Bytes that are no records."""

    origin: Origin
    raw: bytes
    reason: str
    detail: str
    n: int = 1  # positions that it takes: one, whatever its length


Found = FoundRecords | FoundFault
