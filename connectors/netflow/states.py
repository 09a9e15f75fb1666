"""The state of a flow, from TCP flags, ICMP types and what came back.

Records of one direction, the usual ones, say what their sender did:

- SYN without ACK: `attempted`. Nobody is known to have answered; with RST the sender gave up.
- ACK without RST: `established`: the sender has heard the other side.
- ACK and RST with SYN, PSH or FIN: `reset`.
- RST and nothing else but ACK: `other`. It is the answer that refuses a flow of the other side,
  whose own record is `attempted`; called rejected, it would count as a failure of the one refusing.
- Everything else (no flags given, other protocols, FIN or no flag alone): `other`. Whether UDP was
  answered stands in another record.

Sampled records of one direction never are `attempted`: the packets after the SYN may not have been
looked at.

Records of both directions:

- Nothing came back: `attempted` for TCP with a SYN and no ACK or no flags given, for UDP and its
  like, and for requests of ICMP; else `other`.
- Something came back: `rejected` for RST without SYN from the responder (or, where flags are not
  given by direction, RST without PSH and FIN); else `reset` if there was an RST; else `established`.

What a firewall says it denied (firewallEvent 3) is `rejected`.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from connectors.flow_states import ACK, FIN, PSH, RST, SYN, Mask, any_of
from connectors.netflow.rows import Ints, View
from connectors.records import STATES

_TCP, _ICMP, _ICMP6 = 6, 1, 58
_ASKING = (17, 33, 132, 136)  # UDP, DCCP, SCTP, UDP-Lite
_REQUESTS = {_ICMP: (8, 13, 15, 17), _ICMP6: (128, 133, 135, 139)}
_DENIED = 3

_FLAGS = ((0, 6), (6871, 14), (6871, 15))
_REVERSE_FLAGS = ((29_305, 6), (6871, 16_398), (6871, 16_399))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known about each flow besides its own fields, shape (n,)."""

    protocol: Ints  # -1: not given
    answered: Mask | None  # None: records of one direction
    sampled: Mask


def states(view: View, seen: Seen) -> pa.Array:
    """Return the state of each flow, shape (n,), as the module says."""
    codes = _one_way(view, seen) if seen.answered is None else _two_way(view, seen, seen.answered)
    event = view.number((0, 233))
    if event is not None:
        codes = np.where(event == _DENIED, STATES.index("rejected"), codes)
    return pa.array(STATES, pa.string()).take(pa.array(codes))


def _one_way(view: View, seen: Seen) -> Ints:
    flags = _flags(view, _FLAGS)
    tcp = seen.protocol == _TCP
    ack, rst = any_of(flags, ACK), any_of(flags, RST)
    return _choice(
        attempted=tcp & any_of(flags, SYN) & ~ack & ~seen.sampled,
        reset=tcp & ack & rst & any_of(flags, SYN | PSH | FIN),
        established=tcp & ack & ~rst,
    )


def _two_way(view: View, seen: Seen, answered: Mask) -> Ints:
    flags, reverse = _flags(view, _FLAGS), _flags(view, _REVERSE_FLAGS)
    both = flags | reverse
    tcp, rst = seen.protocol == _TCP, any_of(both, RST)
    by_responder = any_of(reverse, RST) & ~any_of(reverse, SYN)
    refused = np.where(reverse != 0, by_responder, rst & ~any_of(both, PSH | FIN))
    lone_syn = (both == 0) | (any_of(both, SYN) & ~any_of(both, ACK))
    asking = np.where(tcp, lone_syn, np.isin(seen.protocol, _ASKING) | _is_request(view, seen.protocol))
    return _choice(
        attempted=~answered & asking,
        rejected=answered & tcp & refused,
        reset=answered & tcp & rst,
        established=answered,
    )


def _choice(**masks: Mask) -> Ints:
    """Return the code of the first state whose mask holds, else of `other`."""
    codes = [STATES.index(name) for name in masks]
    return np.select(list(masks.values()), codes, STATES.index("other")).astype(np.int64)


def _flags(view: View, keys: tuple[tuple[int, int], ...]) -> Ints:
    """Return the TCP flags of all packets, 0 where they are not given."""
    flags = np.zeros(view.n, np.int64)
    for key in keys:
        found = view.number(key)
        if found is not None:
            flags |= found & 0xFF
    return flags


def _is_request(view: View, protocol: Ints) -> Mask:
    """Say which are ICMP messages that ask for an answer: the type is a field or in the port."""
    asking = np.zeros(view.n, np.bool_)
    for number, both, alone in ((_ICMP, (0, 32), (0, 176)), (_ICMP6, (0, 139), (0, 178))):
        kind = view.number(alone)
        if kind is None:
            pair = view.number(both, (0, 11))
            kind = np.full(view.n, -1) if pair is None else pair >> 8
        asking |= (protocol == number) & np.isin(kind, _REQUESTS[number])
    return asking
