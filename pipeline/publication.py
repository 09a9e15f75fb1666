"""What grouping decides to publish: flagged flows and summaries, in Python values."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any

from pipeline.errors import JournalError
from pipeline.suppressions import Suppressed

OVERFLOW = "*"
"""Entity of the flows that came after the last group that a bucket can have."""


@lru_cache(maxsize=10_000)
def address_text(address: bytes) -> str:
    r"""Return an address as people write it, IPv4-mapped ones as dotted quads.

    Examples
    --------
    >>> address_text(bytes.fromhex("00000000000000000000ffff0a000005"))
    '10.0.0.5'
    >>> address_text(bytes(15) + b"\1")
    '::1'
    """
    parsed = IPv6Address(address)
    return str(parsed.ipv4_mapped or parsed)


def entity_text(about: str, src_ip: bytes | None, dst_ip: bytes | None) -> str | None:
    """Return whom an anomaly concerns, by what its leading term is about.

    An anomaly of the flow itself (its size, its port) concerns the source, who opened it. None stands for
    the sensor: the record type has no addresses.

    Examples
    --------
    >>> a, b = (bytes.fromhex(f"00000000000000000000ffff0a00000{n}") for n in (5, 9))
    >>> [entity_text(about, a, b) for about in ("flow", "src", "dst", "pair")]
    ['10.0.0.5', '10.0.0.5', '10.0.0.9', '10.0.0.5 -> 10.0.0.9']
    """
    if about == "pair" and src_ip is not None and dst_ip is not None:
        return f"{address_text(src_ip)} -> {address_text(dst_ip)}"
    address = dst_ip if about == "dst" else src_ip
    return None if address is None else address_text(address)


def digest(*parts: Any) -> str:
    """Return 32 hexadecimal digits that stand for `parts`, which are JSON values.

    Examples
    --------
    >>> digest("ab", "c") == digest("a", "bc")
    False
    """
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def judges(panel: Mapping[str, Any]) -> list[Any]:
    """Return who judged, as it enters into ids: the panel's name and its models with versions.

    Not the shadows: adding one changes no alert's id.

    Raises
    ------
    JournalError
        If the card lacks them.
    """
    try:
        deciding = [model for model in panel["models"] if not model.get("shadow")]
        return [panel["name"], [[model["name"], str(model["version"])] for model in deciding]]
    except (KeyError, TypeError, AttributeError) as error:
        raise JournalError(
            f"header weir-panel is {str(panel)[:80]}, expected a name and models with name and version "
            f"({error!r}); the detections topic was written by another build"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlaggedFlow:
    """A row of a detections message in Python values."""

    sensor: str
    flow_id: str
    event_us: int
    src_ip: bytes | None
    dst_ip: bytes | None
    src_port: int | None
    dst_port: int | None
    protocol: str | None
    clock_us: int
    p_value: float
    scores: tuple[float, ...]
    p_values: tuple[float, ...]
    decided: int
    leading: str
    about: str
    reasons: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """What a group had seen when something of it was published."""

    id: str
    entity: str  # an address, a sensor's name, or OVERFLOW
    count: int
    first_us: int  # smallest and greatest event time
    last_us: int
    p_value: float  # smallest
    sources: tuple[bytes, ...]  # distinct ones in order of appearance, at most MAX_DISTINCT
    destinations: tuple[bytes, ...]
    ports: tuple[int, ...]  # of the destinations


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One alert to be worded: a flagged flow, or the summary of a closed group.

    A flow's running number in its group is `group.count`.
    """

    panel: Mapping[str, Any]  # the card in the headers
    flow: FlaggedFlow  # of a summary: the published one with the smallest p-value
    row: int | None  # index in its detections message; None for a summary
    group: GroupView | None  # None where grouping is off
    suppressed: Suppressed | None = None  # of a summary of flows that made no alert: why

    @property
    def is_summary(self) -> bool:
        """Whether this stands for a closed group."""
        return self.row is None

    @property
    def entity(self) -> str:
        """Whom it concerns: a pair is named where there is only one; a sensor where no address is known."""
        flow, group = self.flow, self.group
        if not self.is_summary or group is None:
            return entity_text(flow.about, flow.src_ip, flow.dst_ip) or flow.sensor
        if flow.about == "pair" and len(group.sources) == len(group.destinations) == 1:
            return entity_text("pair", group.sources[0], group.destinations[0]) or group.entity
        return group.entity
