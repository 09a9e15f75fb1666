"""The feature set `unsw-nb15`: 24 numbers that UNSW-NB15 took from packets, and three categories.

Left out on purpose: the `ct_*` and `is_*` columns, which were computed afterwards over the whole
file and cannot be recomputed live; addresses, ports, times and TCP base numbers, which identify
and do not describe. Which 24 variables the BEAA paper used is not published; this list is ours.
"""

import pyarrow as pa

from connectors.records import UNSW
from pipeline.features.arrays import Floats, codes, numbers, singles
from pipeline.features.base import Columns, Counts, Feature, FeatureSet

PROTOCOLS = ("tcp", "udp", "icmp", "arp", "ospf", "igmp", "sctp", "gre", "unas")
SERVICES = (
    *("-", "dns", "http", "smtp", "ftp", "ftp-data", "pop3", "ssh", "ssl", "snmp", "dhcp", "radius", "irc"),
)
STATES = ("FIN", "INT", "CON", "REQ", "RST", "ACC", "CLO", "ECO", "URH")

S_TO_MS = 1000.0
HANDSHAKE = ("tcprtt", "synack", "ackdat")
"""Recorded in seconds; in milliseconds here, so that log1p spreads what is below a second."""


def _log(name: str, text: str, unit: str = "") -> Feature:
    return Feature(name=name, transform="log1p", unit=unit, text=text)


def _plain(name: str, text: str, unit: str = "") -> Feature:
    return Feature(name=name, unit=unit, text=text)


def _category(name: str, vocabulary: tuple[str, ...], text: str) -> Feature:
    return Feature(name=name, kind="categorical", vocabulary=vocabulary, text=text)


FEATURES = (
    _log("dur", "duration", "s"),
    _category("proto", PROTOCOLS, "protocol"),
    _category("service", SERVICES, "service"),
    _category("state", STATES, "state of the connection"),
    _log("spkts", "packets sent by the source", "packets"),
    _log("dpkts", "packets sent by the destination", "packets"),
    _log("sbytes", "bytes sent by the source", "bytes"),
    _log("dbytes", "bytes sent by the destination", "bytes"),
    _plain("sttl", "time to live of the source's packets", "hops"),
    _plain("dttl", "time to live of the destination's packets", "hops"),
    _log("sload", "bit rate of the source", "bit/s"),
    _log("dload", "bit rate of the destination", "bit/s"),
    _log("sloss", "packets of the source lost or sent again", "packets"),
    _log("dloss", "packets of the destination lost or sent again", "packets"),
    _log("sinpkt", "time between packets of the source", "ms"),
    _log("dinpkt", "time between packets of the destination", "ms"),
    _log("sjit", "jitter of the source", "ms"),
    _log("djit", "jitter of the destination", "ms"),
    _plain("swin", "TCP window announced by the source"),
    _plain("dwin", "TCP window announced by the destination"),
    _log("tcprtt", "round-trip time of the TCP handshake", "ms"),
    _log("synack", "time from SYN to SYN-ACK", "ms"),
    _log("ackdat", "time from SYN-ACK to ACK", "ms"),
    _log("smean", "mean packet size of the source", "bytes"),
    _log("dmean", "mean packet size of the destination", "bytes"),
    _log("trans_depth", "depth of the HTTP transaction"),
    _log("response_body_len", "size of the HTTP response", "bytes"),
)


def compute(rows: pa.RecordBatch, _counts: Counts) -> Columns:
    """Return the features of checked `unsw@1` rows."""
    categories = {f.name: codes(rows, f.name, f.vocabulary) for f in FEATURES if f.kind == "categorical"}
    plain = {f.name: _number(rows, f.name) for f in FEATURES if f.name not in categories}
    return {**singles(plain), **categories}


def _number(rows: pa.RecordBatch, name: str) -> Floats:
    values = numbers(rows, name)
    return values * S_TO_MS if name in HANDSHAKE else values


UNSW_NB15 = FeatureSet(name="unsw-nb15", version=1, record_type=UNSW, features=FEATURES, compute=compute)
