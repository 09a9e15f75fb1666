"""The state of flows that say none of their own: from TCP flags, and from what came back.

A record of both directions (`dst_packets` is given):

- Nothing came back: `attempted` for TCP, unless its flags show no SYN, and for UDP, ICMP and what else
  expects an answer; `other` for the rest.
- Something came back: `rejected` for TCP with a RST, without PSH and FIN, and with no more packets from
  the originator than from the responder; `reset` with any other RST; else `established`.

A record of one direction says what its sender did: SYN without ACK is `attempted`, ACK with RST and with
SYN, PSH or FIN is `reset`, ACK without RST is `established` (the sender has heard the other side). RST and
nothing else refuses a flow of the other side: `other`, as is everything without flags.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.protocols import PORT_PROTOCOLS
from connectors.table_fields import mask_of

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

_ASKING = pa.array([*PORT_PROTOCOLS, "icmp", "ipv6-icmp"])

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def states_of(protocol: pa.Array, flags: pa.Array, src_packets: pa.Array, dst_packets: pa.Array) -> pa.Array:
    """Return the state of each flow, shape (n,).

    Parameters
    ----------
    protocol : Array of string, shape (n,)
        Names in lower case; null: unknown.
    flags : Array of int64, shape (n,)
        TCP flags of all packets, or-ed; null: not given.
    src_packets, dst_packets : Array of int64, shape (n,)
        Null `dst_packets`: seen one-way.

    Examples
    --------
    >>> one = pa.array([1])
    >>> states_of(pa.array(["udp"]), pa.nulls(1, pa.int64()), one, pa.array([0])).to_pylist()
    ['attempted']
    """
    sent, back, bits = _ints(src_packets), _ints(dst_packets), _ints(flags)
    tcp = mask_of(pc.equal(protocol, "tcp"))
    asking = mask_of(pc.is_in(protocol, _ASKING)) & ~(tcp & (bits != 0) & ~any_of(bits, SYN))
    one_way = np.asarray(dst_packets.is_null(), dtype=np.bool_)
    answered = back > 0
    refused = tcp & any_of(bits, RST) & ~any_of(bits, PSH | FIN) & (sent <= back)
    seen = tcp & one_way
    chosen = np.select(
        [
            answered & refused,
            answered & tcp & any_of(bits, RST),
            answered,
            ~answered & ~one_way & asking,
            seen & any_of(bits, SYN) & ~any_of(bits, ACK),
            seen & any_of(bits, ACK) & any_of(bits, RST) & any_of(bits, SYN | PSH | FIN),
            seen & any_of(bits, ACK) & ~any_of(bits, RST),
        ],
        ["rejected", "reset", "established", "attempted", "attempted", "reset", "established"],
        "other",
    )
    return pa.array(chosen.tolist(), pa.string())


def _ints(column: pa.Array) -> Ints:
    return np.asarray(pc.fill_null(column, 0), dtype=np.int64)


def any_of(bits: Ints, wanted: int) -> Mask:
    """Say where any of the wanted flags is set."""
    mask: Mask = (bits & wanted) != 0
    return mask
