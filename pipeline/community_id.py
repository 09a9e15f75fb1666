"""Community ID: one name for a flow in every tool that knows its addresses, ports and protocol."""

from communityid import CommunityID, FlowTuple

from pipeline.publication import address_text

NUMBERS = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "rsvp": 46, "gre": 47,
    "esp": 50, "ah": 51, "icmp6": 58, "icmpv6": 58, "ipv6-icmp": 58, "eigrp": 88, "ospf": 89, "pim": 103,
    "vrrp": 112, "l2tp": 115, "sctp": 132, "udplite": 136,
}  # fmt: skip
"""Protocols by the names that flow exporters write, in IANA's numbers."""

ICMP, ICMP6 = 1, 58
WITH_PORTS = {ICMP, 6, 17, ICMP6, 132}
"""The specification hashes ports of TCP, UDP and SCTP, and type and code of ICMP in their place."""

MOST_ICMP = 255
"""Types and codes are bytes; what is larger is something else in the port columns."""


def community_id(
    protocol: str | None,
    src_ip: bytes | None,
    dst_ip: bytes | None,
    src_port: int | None,
    dst_port: int | None,
) -> str | None:
    r"""Return the Community ID of a flow, version 1 with seed 0, or None where the flow does not tell it.

    Parameters
    ----------
    protocol : str or None
        Name in lower case, or IANA's number as text.
    src_ip, dst_ip : bytes or None
        16 bytes, IPv4 mapped.
    src_port, dst_port : int or None
        Ports; of ICMP type and code, without which there is no ID.

    References
    ----------
    .. [1] Corelight, Community ID Flow Hashing, https://github.com/corelight/community-id-spec

    Examples
    --------
    >>> a, b = (bytes(10) + b"\xff\xff" + bytes(ip) for ip in ([1, 2, 3, 4], [5, 6, 7, 8]))
    >>> community_id("tcp", a, b, 1122, 3344)
    '1:wCb3OG7yAFWelaUydu0D+125CLM='
    """
    number = _number(protocol)
    if number is None or src_ip is None or dst_ip is None:
        return None
    src, dst = address_text(src_ip), address_text(dst_ip)
    if (":" in src) != (":" in dst):
        return None
    # Zeek calls both kinds of ICMP so.
    number = ICMP6 if number == ICMP and ":" in src else number
    if number not in WITH_PORTS:
        return str(CommunityID().calc(FlowTuple(number, src, dst)))
    if src_port is None or dst_port is None:
        return None
    if number in {ICMP, ICMP6} and max(src_port, dst_port) > MOST_ICMP:
        return None
    return str(CommunityID().calc(FlowTuple(number, src, dst, src_port, dst_port)))


def _number(protocol: str | None) -> int | None:
    if protocol is None:
        return None
    if protocol.isascii() and protocol.isdigit() and int(protocol) <= MOST_ICMP:
        return int(protocol)
    return NUMBERS.get(protocol)
