"""The feature set `conn`: any flow record, with what its source and destination did just before.

Chosen for models that see numbers and yes/no columns and relations that are nearly linear in them:
counts go through log1p, so that a ratio is a difference; a port becomes a few yes/no columns; and
what is telling only for one service (bytes of a DNS question, SSH flows of a pair) is a column of
its own, 0 for other flows.

Two columns are nearly 0 for nearly all flows and tell by their size alone: there a logarithm of bytes
or flows would leave hardly more between a mail and a stolen archive than between none and a mail.
`dns_pair_flows` is linear, and `outbound_excess` is in kB, so that log1p is linear up to about one.

Per attack:

- port scan: `src_dst_ports`, `src_ports_per_dst`, `src_failed`
- host sweep: `src_dsts`, `src_dsts_per_flow`, `failed_src_dsts`
- SSH brute force: `ssh_pair_flows`
- flood: `dst_flows`, `dst_srcs`, `failed_dst_srcs`
- slow exfiltration: `outbound_excess`, `outbound_bytes`, `sent_share`, and `src_bytes` of the windows
- DNS tunnel: `dns_pair_flows`, `dns_bytes`
- beaconing: `outbound_rhythm`

References
----------
.. [1] Goh & Barabási (2008), Burstiness and memory in complex systems, EPL 81, 48002, equation 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.records import CONN, FAILED_STATES, STATES
from pipeline.features.address_classes import is_multicast, is_private
from pipeline.features.arrays import Codes, Floats, Mask, addresses, codes, is_null, numbers, ports, singles
from pipeline.features.base import UNKNOWN, About, Columns, Counts, Feature, FeatureSet
from pipeline.features.rhythm import RHYTHM_COLUMNS, RhythmSpec
from pipeline.features.windows import WindowSpec

WINDOWS = WindowSpec(widths_s=(10, 60))
RHYTHM = RhythmSpec(width_s=3600, gaps=16)

TRANSPORTS = ("tcp", "udp", "icmp", "icmp6", "ipv6-icmp", "sctp", "gre", "esp", "igmp")
SERVICES = tuple(
    """
    dns http ssl tls quic ssh smtp imap pop3 ftp ftp-data dhcp ntp snmp smb krb ldap rdp rsync sip
    mysql postgresql mqtt irc telnet syslog
    """.split()  # noqa: SIM905 - many names read better as text
)

PORTS = {
    "dns": (53,),
    "ssh": (22,),
    "web": (80, 443, 8080, 8443),
    "mail": (25, 110, 143, 465, 587, 993, 995),
}
WELL_KNOWN_PORTS = 1024
KB = 1000.0


def _port_classes() -> npt.NDArray[np.uint8]:
    """Return the class of each port: an index into `PORT_CLASSES`; the last entry is "no port"."""
    classes = np.full((1 << 16) + 1, PORT_CLASSES.index("high"), dtype=np.uint8)
    classes[:WELL_KNOWN_PORTS] = PORT_CLASSES.index("low")
    for name, of_class in PORTS.items():
        classes[list(of_class)] = PORT_CLASSES.index(name)
    classes[-1] = PORT_CLASSES.index("none")
    return classes


PORT_CLASSES = ("none", "high", "low", *PORTS)
CLASS_OF_PORT = _port_classes()


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What several features need, read once a batch."""

    src_bytes: Floats
    dst_bytes: Floats
    src_packets: Floats
    dst_packets: Floats
    port_class: npt.NDArray[np.uint8]
    transport: Codes
    service: Codes
    state: Codes
    src_private: Mask
    dst_private: Mask
    dns: Mask
    ssh: Mask
    failed: Mask

    @classmethod
    def read(cls, rows: pa.RecordBatch) -> "Flow":
        """Read `rows`, checked."""
        port_class = CLASS_OF_PORT[ports(rows, "dst_port")]  # no port is -1: the last entry
        service = codes(rows, "service", SERVICES)
        state = codes(rows, "state", STATES)
        return cls(
            src_bytes=numbers(rows, "src_bytes"),
            dst_bytes=numbers(rows, "dst_bytes"),
            src_packets=numbers(rows, "src_packets"),
            dst_packets=numbers(rows, "dst_packets"),
            port_class=port_class,
            transport=codes(rows, "protocol", TRANSPORTS),
            service=service,
            state=state,
            src_private=is_private(addresses(rows, "src_ip")),
            dst_private=is_private(addresses(rows, "dst_ip")),
            dns=(port_class == PORT_CLASSES.index("dns")) | _has(service, SERVICES, "dns"),
            ssh=(port_class == PORT_CLASSES.index("ssh")) | _has(service, SERVICES, "ssh"),
            failed=_has(state, STATES, *FAILED_STATES),
        )


def _has(found: Codes, vocabulary: tuple[str, ...], *names: str) -> Mask:
    """Return where a category is one of `names`."""
    mask: Mask = np.zeros(found.shape, dtype=np.bool_)
    for name in names:
        mask |= found == vocabulary.index(name) + UNKNOWN + 1
    return mask


def _per(part: Floats, whole: Floats) -> Floats:
    """Return part / whole, and 0 where there is no whole."""
    ratio: Floats = part / np.maximum(whole, 1.0)
    return ratio


NUMBERS = (
    Feature(name="duration", transform="log1p", unit="s", text="duration"),
    Feature(name="src_bytes", transform="log1p", unit="bytes", text="bytes sent by the source"),
    Feature(name="dst_bytes", transform="log1p", unit="bytes", text="bytes sent by the destination"),
    Feature(name="src_packets", transform="log1p", unit="packets", text="packets sent by the source"),
    Feature(name="dst_packets", transform="log1p", unit="packets", text="packets sent by the destination"),
    Feature(name="src_packet_size", transform="log1p", unit="bytes", text="mean packet size of the source"),
    Feature(
        name="dst_packet_size", transform="log1p", unit="bytes", text="mean packet size of the destination"
    ),
    Feature(name="sent_share", unit="ratio", text="share of the bytes that the source sent"),
    Feature(
        name="outbound_bytes",
        transform="log1p",
        unit="bytes",
        about="src",
        text="bytes sent from a private to a public address",
    ),
    Feature(
        name="outbound_excess",
        transform="log1p",
        unit="kB",
        about="src",
        text="bytes sent from a private to a public address beyond those received",
    ),
    Feature(name="dns_bytes", transform="log1p", unit="bytes", text="bytes sent by the source of a DNS flow"),
)


def _numbers(rows: pa.RecordBatch, flow: Flow) -> Columns:
    outbound = flow.src_private & ~flow.dst_private
    excess = np.maximum(flow.src_bytes - flow.dst_bytes, 0.0) / KB
    return {
        "duration": numbers(rows, "duration"),
        "src_bytes": flow.src_bytes,
        "dst_bytes": flow.dst_bytes,
        "src_packets": flow.src_packets,
        "dst_packets": flow.dst_packets,
        "src_packet_size": _per(flow.src_bytes, flow.src_packets),
        "dst_packet_size": _per(flow.dst_bytes, flow.dst_packets),
        "sent_share": _per(flow.src_bytes, flow.src_bytes + flow.dst_bytes),
        "outbound_bytes": np.where(outbound, flow.src_bytes, 0.0),
        "outbound_excess": np.where(outbound, excess, 0.0),
        "dns_bytes": np.where(flow.dns, flow.src_bytes, 0.0),
    }


YES_NO = (
    Feature(name="one_way", kind="binary", text="the destination was not seen to answer"),
    Feature(name="failed", kind="binary", text="the connection was attempted or rejected, not established"),
    Feature(name="reset", kind="binary", text="the connection was reset"),
    Feature(name="is_udp", kind="binary", text="over UDP"),
    Feature(name="is_icmp", kind="binary", text="over ICMP"),
    Feature(name="is_dns", kind="binary", text="DNS"),
    Feature(name="is_ssh", kind="binary", text="SSH"),
    Feature(name="is_web", kind="binary", text="a web port"),
    Feature(name="is_mail", kind="binary", text="a mail port"),
    Feature(name="is_low_port", kind="binary", text="another destination port below 1024"),
    Feature(name="src_private", kind="binary", about="src", text="a private source address"),
    Feature(name="dst_private", kind="binary", about="dst", text="a private destination address"),
    Feature(name="dst_multicast", kind="binary", about="dst", text="a multicast or broadcast destination"),
)


def _yes_no(rows: pa.RecordBatch, flow: Flow) -> Columns:
    web, mail, low = (flow.port_class == PORT_CLASSES.index(name) for name in ("web", "mail", "low"))
    return {
        "one_way": is_null(rows, "dst_bytes") | is_null(rows, "dst_packets"),
        "failed": flow.failed,
        "reset": _has(flow.state, STATES, "reset"),
        "is_udp": _has(flow.transport, TRANSPORTS, "udp"),
        "is_icmp": _has(flow.transport, TRANSPORTS, "icmp", "icmp6", "ipv6-icmp"),
        "is_dns": flow.dns,
        "is_ssh": flow.ssh,
        "is_web": web,
        "is_mail": mail,
        "is_low_port": low,
        "src_private": flow.src_private,
        "dst_private": flow.dst_private,
        "dst_multicast": is_multicast(addresses(rows, "dst_ip")),
    }


CATEGORIES = (
    Feature(name="transport", kind="categorical", vocabulary=TRANSPORTS, text="transport protocol"),
    Feature(name="service", kind="categorical", vocabulary=SERVICES, text="service"),
    Feature(name="state", kind="categorical", vocabulary=STATES, text="state of the connection"),
)


@dataclass(frozen=True)
class Counted:
    """A window column that is a feature as it stands."""

    name: str
    about: About
    unit: str
    text: str


COUNTED = (
    Counted("src_flows", "src", "flows", "connections from the source"),
    Counted("src_bytes", "src", "bytes", "bytes sent by the source over all its connections"),
    Counted("src_failed", "src", "flows", "failed connections of the source"),
    Counted("src_dsts", "src", "addresses", "addresses that the source contacted"),
    Counted("src_dst_ports", "src", "ports", "address and port pairs that the source contacted"),
    Counted("dst_flows", "dst", "flows", "connections to the destination"),
    Counted("dst_srcs", "dst", "addresses", "addresses that contacted the destination"),
    Counted("pair_flows", "pair", "flows", "connections from this source to this destination"),
)


Window = Callable[[str], Floats]
"""Values of one window column at one width, by its name."""


@dataclass(frozen=True)
class Derived:
    """A feature made elementwise of window columns of one width."""

    name: str
    about: About
    unit: str
    text: str
    of: Callable[[Window, Flow], Floats]
    log: bool = False


DERIVED = (
    Derived(
        "src_failed_share", "src", "ratio", "share of failed connections of the source",
        lambda w, _: _per(w("src_failed"), w("src_flows")),
    ),
    Derived(
        "src_dsts_per_flow", "src", "ratio", "different addresses per connection of the source",
        lambda w, _: _per(w("src_dsts"), w("src_flows")),
    ),
    Derived(
        "src_ports_per_dst", "src", "ports", "different ports per address that the source contacted",
        lambda w, _: _per(w("src_dst_ports"), w("src_dsts")), log=True,
    ),
    Derived(
        "src_bytes_per_flow", "src", "bytes", "mean bytes sent per connection of the source",
        lambda w, _: _per(w("src_bytes"), w("src_flows")), log=True,
    ),
    Derived(
        "dst_srcs_per_flow", "dst", "ratio", "different sources per connection to the destination",
        lambda w, _: _per(w("dst_srcs"), w("dst_flows")),
    ),
    Derived(
        "ssh_pair_flows", "pair", "flows", "SSH connections from this source to this destination",
        lambda w, flow: np.where(flow.ssh, w("pair_flows"), 0.0), log=True,
    ),
    Derived(
        "dns_pair_flows", "pair", "flows", "DNS connections from this source to this destination",
        lambda w, flow: np.where(flow.dns, w("pair_flows"), 0.0),
    ),
    Derived(
        "failed_src_dsts", "src", "addresses", "addresses that the source of a failed connection contacted",
        lambda w, flow: np.where(flow.failed, w("src_dsts"), 0.0), log=True,
    ),
    Derived(
        "failed_dst_srcs", "dst", "addresses", "addresses that contacted the target of a failed connection",
        lambda w, flow: np.where(flow.failed, w("dst_srcs"), 0.0), log=True,
    ),
)  # fmt: skip
DERIVED_WIDTH_S = WINDOWS.widths_s[-1]


def _window_features() -> tuple[Feature, ...]:
    counted = tuple(
        Feature(
            name=f"{c.name}_{width}s",
            transform="log1p",
            unit=c.unit,
            about=c.about,
            text=f"{c.text} in the last {width} s",
        )
        for width in WINDOWS.widths_s
        for c in COUNTED
    )
    derived = tuple(
        Feature(
            name=f"{d.name}_{DERIVED_WIDTH_S}s",
            transform="log1p" if d.log else "none",
            unit=d.unit,
            about=d.about,
            text=f"{d.text} in the last {DERIVED_WIDTH_S} s",
        )
        for d in DERIVED
    )
    return counted + derived


def _window_columns(counts: Counts, flow: Flow) -> Columns:
    values = {name: counts[name].astype(np.float64) for name in WINDOWS.names}
    columns = {
        f"{c.name}_{width}s": values[f"{c.name}_{width}s"] for width in WINDOWS.widths_s for c in COUNTED
    }
    for derived in DERIVED:
        columns[f"{derived.name}_{DERIVED_WIDTH_S}s"] = derived.of(
            lambda name: values[f"{name}_{DERIVED_WIDTH_S}s"], flow
        )
    return columns


RHYTHMS = (
    Feature(
        name=f"outbound_rhythm_{RHYTHM.width_s}s",
        unit="gaps",
        about="pair",
        text="regular gaps between the connections from this source to this public address and port "
        f"in the last {RHYTHM.width_s} s",
    ),
)


def _outbound(rows: pa.RecordBatch) -> Mask:
    """Return which rows go from a private to a public address."""
    dst = addresses(rows, "dst_ip")
    return is_private(addresses(rows, "src_ip")) & ~is_private(dst) & ~is_multicast(dst)


def _rhythm_columns(counts: Counts) -> Columns:
    """Return gaps times squared burstiness B [1]_, where the gaps are less bursty than by chance.

    B is -1 for a clock and 0 for connections at random (a Poisson process): then nothing is left.
    """
    gaps, total_ms, squares = (counts[name].astype(np.float64) for name in RHYTHM_COLUMNS)
    mean = _per(total_ms, gaps)
    deviation = np.sqrt(np.maximum(_per(squares, gaps) - mean**2, 0.0))
    burstiness = (deviation - mean) / np.maximum(deviation + mean, 1.0)
    regular = (gaps > 1) & (burstiness < 0)  # a single gap is as regular as it is long
    return {RHYTHMS[0].name: np.where(regular, gaps * burstiness**2, 0.0)}


def compute(rows: pa.RecordBatch, counts: Counts) -> Columns:
    """Return the features of checked `conn@1` rows and of what windows and rhythm count for them."""
    flow = Flow.read(rows)
    plain = {
        **_numbers(rows, flow),
        **_yes_no(rows, flow),
        **_window_columns(counts, flow),
        **_rhythm_columns(counts),
    }
    return singles(plain) | {
        "transport": flow.transport,
        "service": flow.service,
        "state": flow.state,
    }


CONN_FEATURES = FeatureSet(
    name="conn",
    version=3,
    record_type=CONN,
    features=(*NUMBERS, *YES_NO, *CATEGORIES, *_window_features(), *RHYTHMS),
    compute=compute,
    required=("src_ip", "dst_ip"),
    windows=WINDOWS,
    rhythm=RHYTHM,
    followed=_outbound,
)
