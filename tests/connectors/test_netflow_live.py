"""NetFlow through a real UDP socket on this machine."""

import socket
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from netflow_datagrams import FLOW, assert_sound, data, flow, template, v5, v5_record, v9

from connectors.base import Chunk, Source
from connectors.errors import SourceError
from connectors.source_netflow import COUNTERS, WAIT_S, NetflowSource

PLAIN = v5(v5_record(), v5_record(2), sequence=3)


def test_a_sensor_needs_a_name() -> None:
    """An empty name would make every row a bad one."""
    with pytest.raises(SourceError, match="sensor's name is empty"):
        NetflowSource(port=0, sensor="")


@pytest.fixture
def live() -> Iterator[NetflowSource]:
    with NetflowSource(port=0) as source:
        yield source


def send(source: NetflowSource, *datagrams: bytes, sender: str = "127.0.0.1") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind((sender, 0))
        for datagram in datagrams:
            out.sendto(datagram, source.address)


def filled(chunks: Iterator[Chunk], n: int) -> list[dict[str, Any]]:
    """Return n rows, from as many chunks as it takes."""
    rows: list[dict[str, Any]] = []
    for chunk in islice(chunks, 50):
        assert_sound(chunk)
        rows += chunk.rows.to_pylist()
        if len(rows) >= n:
            break
    return rows


def test_a_live_source_is_a_source(live: NetflowSource) -> None:
    """It has all that the contract names; how many records will come is not known."""
    assert isinstance(live, Source)
    assert live.n_records is None
    assert any("receive buffer" in note for note in live.notes)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_flows_come_through_a_socket(live: NetflowSource) -> None:
    """Exporters are told apart by their addresses; positions count on from where the reader says."""
    send(live, v9(template(256, FLOW), data(256, flow(), flow(sport=7)), sequence=1))
    send(live, PLAIN, v9(data(256, flow())), sender="127.0.0.2")
    rows = filled(live.chunks(1000), 4)

    assert [row["sensor"] for row in rows] == ["127.0.0.1"] * 2 + ["127.0.0.2"] * 2
    assert [row["position"] for row in rows] == [1000, 1001, 1002, 1003]
    assert live.counters()["datagrams"] == 3
    assert (live.counters()["flows"], live.counters()["held_sets"]) == (4, 1)


def test_an_idle_source_gives_empty_chunks(live: NetflowSource) -> None:
    """So that its reader can do other things, and stop."""
    first, second = islice(live.chunks(7), 2)

    assert [(chunk.first, chunk.next, chunk.rows.num_rows) for chunk in (first, second)] == [(7, 7, 0)] * 2


def test_chunks_keep_to_their_size(live: NetflowSource) -> None:
    """A datagram with more records than a chunk may have goes into several."""
    send(live, v5(*[v5_record()] * 25))
    chunks = list(islice(live.chunks(rows=10), 3))

    assert [(chunk.first, chunk.next) for chunk in chunks] == [(0, 10), (10, 20), (20, 25)]


def test_close_ends_a_reading(live: NetflowSource) -> None:
    """From another thread, within moments; what waited for its template is rejected then."""
    send(live, v9(data(256, flow())))
    threading.Timer(1.5 * WAIT_S, live.close).start()
    chunks = list(live.chunks())

    assert [reject.reason for chunk in chunks for reject in chunk.rejects] == ["no_template"]
    assert list(live.chunks()) == []


@pytest.mark.skipif(not Path("/proc/net/udp").exists(), reason="only Linux says what it dropped")
def test_what_the_kernel_drops_is_counted() -> None:
    """Received and dropped are together what was sent."""
    with NetflowSource(port=0, buffer_bytes=4096) as source:
        send(source, *(v5(*[v5_record()] * 20, sequence=20 * i) for i in range(100)))
        read = 0
        for chunk in source.chunks():
            read += chunk.rows.num_rows
            if not chunk.rows.num_rows:
                break
        counters = source.counters()

    assert counters["kernel_drops"] > 0
    assert counters["datagrams"] + counters["kernel_drops"] == 100
    assert read == counters["flows"] == 20 * counters["datagrams"]
    assert source.counters() == counters


def test_counters_have_fixed_names(live: NetflowSource) -> None:
    """All are there from the beginning, at zero."""
    assert live.counters() == dict.fromkeys(COUNTERS, 0)


def test_a_port_that_is_taken_is_refused(live: NetflowSource) -> None:
    """The error says which address, why, and what to do."""
    port = live.address[1]

    with pytest.raises(SourceError, match=rf"cannot listen on UDP 127.0.0.1 port {port} .*choose another"):
        NetflowSource(port=port)
    with pytest.raises(SourceError, match=r"cannot listen on UDP 203\.0\.113\.1 port 0"):
        NetflowSource("203.0.113.1", 0)
    with pytest.raises(SourceError, match=r"cannot listen on UDP 127\.0\.0\.1 port 70000"):
        NetflowSource(port=70_000)
    with pytest.raises(SourceError, match="cannot listen on UDP no such host port 0"):
        NetflowSource("no such host", 0)


def test_a_source_has_an_identity_of_its_own() -> None:
    """Address and sensor make it; a restarted process has the same."""
    with NetflowSource(port=0) as first:
        port = first.address[1]
    again = []
    for sensor in (None, "roof"):
        with NetflowSource(port=port, sensor=sensor) as source:
            again.append(source.source_id)

    assert first.source_id == again[0] != again[1]


def test_exporters_over_ipv6_are_heard() -> None:
    """An IPv4 exporter has its plain address also where the socket is an IPv6 one."""
    try:
        source = NetflowSource("::", 0)
    except SourceError:
        pytest.skip("this machine has no IPv6")
    with source, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as out:
        out.sendto(PLAIN, ("::1", source.address[1]))
        out.sendto(PLAIN, ("::ffff:127.0.0.1", source.address[1]))
        rows = filled(source.chunks(), 4)

    assert {row["sensor"] for row in rows} == {"::1", "127.0.0.1"}
