"""Private and multicast addresses, against the standard library's networks."""

from ipaddress import IPv6Address, ip_network

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.features.address_classes import is_multicast, is_private

MAPPED = b"\0" * 10 + b"\xff\xff"
PRIVATE = [
    ip_network(n) for n in ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
]
PRIVATE_V6 = [ip_network(n) for n in ("fc00::/7", "fe80::/10", "::/127")]
MULTICAST = [ip_network(n) for n in ("224.0.0.0/4", "255.255.255.255/32")]
MULTICAST_V6 = [ip_network("ff00::/8")]

NETWORKS = PRIVATE + PRIVATE_V6 + MULTICAST + MULTICAST_V6
EDGES = [
    edge
    for network in NETWORKS
    for first, last in [(int(network[0]), int(network[-1]))]
    for edge in (
        (value.to_bytes(4) if network.version == 4 else value.to_bytes(16))
        for value in (first, last, max(first - 1, 0), min(last + 1, 2**network.max_prefixlen - 1))
    )
]
"""The first and last address of each network and their neighbours outside."""

ADDRESSES = st.one_of(
    st.sampled_from(EDGES), st.binary(min_size=16, max_size=16), st.binary(min_size=4, max_size=4)
)


def _expected(packed: bytes, v4: list[object], v6: list[object]) -> bool:
    address = IPv6Address(packed)
    mapped = address.ipv4_mapped
    return any(mapped in n for n in v4) if mapped else any(address in n for n in v6)


@given(st.lists(ADDRESSES, max_size=20))
def test_classes_are_those_of_the_networks(addresses: list[bytes]) -> None:
    """Every address is private or multicast exactly where a network of that kind holds it."""
    packed = [MAPPED + a if len(a) == 4 else a for a in addresses]
    column = np.frombuffer(b"".join(packed), np.uint8).reshape(-1, 16)

    assert [_expected(a, PRIVATE, PRIVATE_V6) for a in packed] == is_private(column).tolist()
    assert [_expected(a, MULTICAST, MULTICAST_V6) for a in packed] == is_multicast(column).tolist()
