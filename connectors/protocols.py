"""Transport protocols under the names that records give them, from IANA's numbers and other spellings."""

PROTOCOL_NAMES = {
    1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 8: "egp", 17: "udp", 33: "dccp", 41: "ipv6", 46: "rsvp",
    47: "gre", 50: "esp", 51: "ah", 58: "ipv6-icmp", 88: "eigrp", 89: "ospf", 94: "ipip", 97: "etherip",
    103: "pim", 112: "vrrp", 115: "l2tp", 132: "sctp", 136: "udplite", 137: "mpls-in-ip",
}  # fmt: skip
"""Numbers that occur [1]_; others stay numbers.

.. [1] IANA, Assigned Internet Protocol Numbers.
"""

PORT_PROTOCOLS = ("tcp", "udp", "sctp", "dccp", "udplite")
"""Protocols that have ports; for the others the exporter wrote ICMP identifiers or 0."""

_SPELLINGS = {
    **{str(number): name for number, name in PROTOCOL_NAMES.items()},
    "icmpv6": "ipv6-icmp",
    "icmp6": "ipv6-icmp",
    "icmp-v6": "ipv6-icmp",
    "udp-lite": "udplite",
    "ospfigp": "ospf",
}


def protocol_name(word: str) -> str:
    """Return the name of a protocol that is given as a number or in any spelling.

    Examples
    --------
    >>> [protocol_name(word) for word in ("6", "TCP", "ICMPv6", "253")]
    ['tcp', 'tcp', 'ipv6-icmp', '253']
    """
    word = word.strip().lower()
    return _SPELLINGS.get(word, word)
