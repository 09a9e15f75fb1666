"""Community ID: the specification's own vectors, one ID for both directions, none where it is not known."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.community_id import NUMBERS, community_id

V6 = ("fe80:1:203:405:607:809:a0b:c0d", "fe80:1011:1213:1415:1617:1819:1a1b:1c1d")
V4 = ("1.2.3.4", "5.6.7.8")


def packed(text: str) -> bytes:
    """Return an address as records hold it."""
    parsed = ip_address(text)
    return parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed


@pytest.mark.parametrize(
    ("protocol", "addresses", "ports", "expected"),
    [
        ("tcp", V4, (1122, 3344), "1:wCb3OG7yAFWelaUydu0D+125CLM="),
        ("udp", V4, (1122, 3344), "1:0Mu9InQx6z4ZiCZM/7HXi2WMhOg="),
        ("icmp", V4, (8, 0), "1:crodRHL2FEsHjbv3UkRrfbs4bZ0="),
        ("ipv6-icmp", V6, (128, 0), "1:0bf7hyMJUwt3fMED7z8LIfRpBeo="),
        ("icmp", V6, (128, 129), "1:0bf7hyMJUwt3fMED7z8LIfRpBeo="),  # as Zeek writes it
        ("rsvp", V4, (None, None), "1:ikv3kmf89luf73WPz1jOs49S768="),
        ("46", V4, (None, None), "1:ikv3kmf89luf73WPz1jOs49S768="),
    ],
)
def test_the_published_vectors_hold(
    protocol: str, addresses: tuple[str, str], ports: tuple[int | None, int | None], expected: str
) -> None:
    """Other tools find the flow by the same ID, whichever side they saw first."""
    src, dst = map(packed, addresses)

    assert community_id(protocol, src, dst, *ports) == expected
    if "icmp" not in protocol:
        assert community_id(protocol, dst, src, *reversed(ports)) == expected


def test_an_icmp_answer_has_the_id_of_its_question() -> None:
    """Type 0 belongs to type 8."""
    src, dst = map(packed, V4)

    assert community_id("icmp", dst, src, 0, 0) == community_id("icmp", src, dst, 8, 0)


PORTS = st.one_of(st.none(), st.integers(0, 65_535))
ADDRESSES = st.one_of(st.none(), st.ip_addresses().map(str).map(packed))
PROTOCOLS = st.one_of(st.none(), st.sampled_from(sorted(NUMBERS)), st.text(max_size=5))


@given(PROTOCOLS, ADDRESSES, ADDRESSES, PORTS, PORTS)
def test_any_flow_has_an_id_or_none(
    protocol: str | None, src: bytes | None, dst: bytes | None, src_port: int | None, dst_port: int | None
) -> None:
    """Whatever a record holds, there is an ID of the published form or nothing, never an error."""
    found = community_id(protocol, src, dst, src_port, dst_port)

    assert found is None or (found.startswith("1:") and len(found) == 30)
    if protocol is None or src is None or dst is None:
        assert found is None


@pytest.mark.parametrize(
    ("protocol", "src", "ports"),
    [
        ("tcp", V4[0], (None, 80)),
        ("icmp", V4[0], (None, None)),
        ("icmp", V4[0], (0, 2048)),  # type and code in one number, as NetFlow has it
        ("tcp", V6[0], (1122, 3344)),  # the other side is IPv4
        ("unknown", V4[0], (1122, 3344)),
        ("300", V4[0], (1122, 3344)),
    ],
)
def test_a_guess_is_no_id(protocol: str, src: str, ports: tuple[int | None, int | None]) -> None:
    """What the flow does not tell makes no ID that another tool would not find."""
    assert community_id(protocol, packed(src), packed(V4[1]), *ports) is None
