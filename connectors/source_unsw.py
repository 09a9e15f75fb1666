"""UNSW-NB15 as records of type unsw@1, and its raw files as flows of type conn@1."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.layouts import UNSW_PARTITION, UNSW_RAW, Layout
from connectors.protocols import PORT_PROTOCOLS
from connectors.records import CONN, LATEST_US, TIME, UNSW
from connectors.source_table import Dataset, feature_columns, synthetic_times
from connectors.table_fields import Fields, mask_of, renamed

START_US = 1_421_884_800_000_000
"""2015-01-22, the first day of the capture: where the synthetic times of the partition begin."""


_SPELLINGS = {"": "normal", "Normal": "normal", "Backdoors": "Backdoor"}
_UNNAMED_ATTACK = "unnamed attack"


def _unsw(fields: Fields, layout: Layout) -> Mapping[str, pa.Array]:
    identity = _raw_identity(fields) if layout is UNSW_RAW else _partition_identity(fields)
    return {**feature_columns(fields, UNSW), **identity}


def _partition_identity(fields: Fields) -> dict[str, pa.Array]:
    return {
        "event_time": synthetic_times(fields, START_US),
        "protocol": pc.utf8_lower(fields.text("proto")),
        "label": _category(fields),
    }


def _raw_identity(fields: Fields) -> dict[str, pa.Array]:
    protocol = pc.utf8_lower(fields.text("proto"))
    has_ports = pc.is_in(protocol, pa.array(PORT_PROTOCOLS))
    category = _category(fields)
    unnamed = pc.and_(pc.equal(category, "normal"), pc.equal(pc.fill_null(fields.count("label"), 0), 1))
    return {
        "event_time": _times(fields),
        "src_ip": fields.address("srcip"),
        "dst_ip": fields.address("dstip"),
        "src_port": pc.if_else(has_ports, fields.port("sport"), None),
        "dst_port": pc.if_else(has_ports, fields.port("dsport"), None),
        "protocol": protocol,
        "label": pc.if_else(unnamed, _UNNAMED_ATTACK, category),
    }


def _times(fields: Fields) -> pa.Array:
    """Return `Ltime` as a time; what would not fit becomes a time that the check refuses."""
    seconds = pc.min_element_wise(fields.count("ltime"), LATEST_US // 1_000_000, skip_nulls=False)
    return pc.multiply(pc.max_element_wise(seconds, -1, skip_nulls=False), 1_000_000).cast(TIME)


def _category(fields: Fields) -> pa.Array:
    return renamed(fields.text("attack_cat"), lambda name: _SPELLINGS.get(name, name))


def _conn(fields: Fields, _layout: Layout) -> Mapping[str, pa.Array]:
    identity = _raw_identity(fields)
    dst_packets = fields.count("dpkts")
    answered = pc.greater(dst_packets, 0)
    service = fields.text("service")
    return {
        **identity,
        "duration": fields.number("dur"),
        "src_bytes": fields.count("sbytes"),
        "dst_bytes": pc.if_else(answered, fields.count("dbytes"), None),
        "src_packets": fields.count("spkts"),
        "dst_packets": pc.if_else(answered, dst_packets, None),
        "service": pc.if_else(pc.is_in(service, pa.array(["-", ""])), None, service),
        "state": _states(fields, identity["protocol"], answered),
    }


def _states(fields: Fields, protocol: pa.Array, answered: pa.Array) -> pa.Array:
    """Map Argus' states to those of conn@1.

    Argus' word depends on the protocol, so replies and handshake decide where the word does not:

    - RST: `reset` after a handshake (synack > 0), else `rejected`: the answer to a SYN was a reset.
    - Answered, with a word for an exchange (FIN, CON, ACC, CLO; INT and REQ, which then only mean
      that no end was seen; ECO, ECR): `established`.
    - Unanswered INT, REQ or ECO of a protocol that expects an answer (tcp, udp, sctp, icmp ...):
      `attempted`. Unanswered OSPF, ARP, IGMP and tunnels are announcements, not failures: `other`.
    - Everything else (URH, URN, URP are ICMP messages about some other flow; TST, TXD, MAS, PAR;
      `no`, `-`; one-way FIN or CON, half of which was not seen): `other`.
    """
    word = np.char.upper(np.asarray(fields.text("state").to_pylist(), dtype=np.str_))
    replied = mask_of(answered)
    shaken = mask_of(pc.greater(fields.number("synack"), 0))
    asks = np.asarray(pc.is_in(protocol, pa.array([*PORT_PROTOCOLS, "icmp"])), dtype=np.bool_)
    exchange = np.isin(word, ["FIN", "CON", "ACC", "CLO", "INT", "REQ", "ECO", "ECR"])
    request = np.isin(word, ["INT", "REQ", "ECO"])
    states = np.select(
        [(word == "RST") & shaken, word == "RST", exchange & replied, request & ~replied & asks],
        ["reset", "rejected", "established", "attempted"],
        "other",
    )
    return pa.array(states.tolist(), pa.string())


def _notes(layout: Layout) -> tuple[str, ...]:
    if layout is UNSW_RAW:
        return ("Records are in the order of their end (Ltime), in whole seconds.",)
    return (
        "Event times are synthetic: 2015-01-22T00:00:00Z and 10 ms for each record; the partition has none.",
        "The partition has no addresses, so alerts name the sensor only.",
        "Its rows are ordered by label.",
        "The names of its two files are swapped in many copies: the paper tests on the 82,332 records.",
    )


def _conn_notes(layout: Layout) -> tuple[str, ...]:
    return (*_notes(layout), "Bytes are those of the transaction as Argus counts them, headers included.")


UNSW_NB15 = Dataset(
    name="unsw-nb15", record_type=UNSW, layouts=(UNSW_RAW, UNSW_PARTITION), convert=_unsw, notes=_notes
)
"""The columns that raw files and partition share. Label: the attack category, or `normal`."""

UNSW_CONN = Dataset(name="unsw-conn", record_type=CONN, layouts=(UNSW_RAW,), convert=_conn, notes=_conn_notes)
"""The raw files' flows as any exporter would give them: no precomputed counts."""
