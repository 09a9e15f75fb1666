"""A program that makes flows of a capture with nfstream's engine: `python capture_meter.py IDLE ACTIVE OPEN`.

It reads the capture from its standard input and writes messages to its standard output (see `MESSAGE`).
It is a process of its own because a hostile packet may end the C code that takes packets apart, and needs
nothing of ours, so that it starts in milliseconds.

nfstream's engine reads the packets, counts the flows and recognises services (nDPI). Its Python side,
`NFStreamer`, is left out, since it

- never ends on a capture that breaks off: it asks again for the packet that cannot be read;
- waits for ever if a process of its own dies, and takes an interrupt for the end of the capture;
- gives every packet the latest time so far, so that one wrong clock moves all that follow;
- keeps flows in the order of their first packet, so that a long one holds up all others;
- orders flows by chance where it uses several processes, and binds ours to two processors.
"""

import gzip
import json
import os
import signal
import sys
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from struct import Struct
from typing import Any, BinaryIO

MESSAGE = Struct("<cI")
"""Kind and bytes of what follows: flows (rows of `ROW`), or at the end a JSON object."""
FLOWS, END = b"F", b"E"

FIELDS = (
    ("first_ms", "Q"),  # since 1970
    ("last_ms", "Q"),
    ("src_ip", "16s"),  # sender of the first packet; IPv4 in the first four bytes
    ("dst_ip", "16s"),
    ("src_port", "H"),
    ("dst_port", "H"),
    ("ip_version", "B"),
    ("protocol", "B"),
    ("turned", "B"),  # the first packet is an answer: `dst` is the originator
    ("asks", "B"),  # ICMP: the first packet is a request
    ("src_packets", "Q"),
    ("dst_packets", "Q"),
    ("src_bytes", "Q"),  # payload
    ("dst_bytes", "Q"),
    ("src_syn", "Q"),  # packets with the flag
    ("dst_syn", "Q"),
    ("src_fin", "Q"),
    ("dst_fin", "Q"),
    ("src_rst", "Q"),
    ("dst_rst", "Q"),
    ("confidence", "B"),  # nDPI's, see `ndpi_confidence_t`
    ("application", "40s"),
)
ROW = Struct("<" + "".join(code for _, code in FIELDS))

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
_WITH_PORTS = (33, 132, 136)  # dccp, sctp, udplite: ports at the beginning, which the engine does not read
_HEADER_BYTES = {TCP: 20, UDP: 8}
_REQUESTS = {ICMP: (8, 13, 15, 17), ICMP6: (128, 133, 135)}  # echo, time ...; echo, router, neighbour
_REPLIES = {ICMP: (0, 14, 16, 18), ICMP6: (129,)}
SERVER_PORTS = frozenset((
    20, 21, 22, 23, 25, 53, 67, 69, 80, 88, 110, 111, 123, 137, 139, 143, 161, 389, 443, 445, 465, 514, 547,
    587, 636, 853, 993, 995, 1433, 1883, 3306, 3389, 5060, 5353, 5355, 5432, 8080, 8443,
))  # fmt: skip
"""Ports of servers: a sender on one, to a port that is none, answers somebody."""

_PAYLOAD = 3  # accounting mode: bytes are those of the payload
_DISSECTED = 20  # packets of a flow that nDPI looks at, nfstream's default
_ROWS_A_MESSAGE = 250
_PATIENCE_S = 60  # for 4,096 packets, which take milliseconds
_BROKEN = -1  # what the engine says at the end of a capture that breaks off; -2 at a proper end
_LATER_FRAGMENT, _UNREADABLE_HEADER = -1, -2


class Flow:
    """A flow that is still open, or waits for its turn in the order of ends."""

    __slots__ = ("asks", "counts", "key", "turned")

    def __init__(self, key: object, counts: Any, *, turned: bool, asks: bool) -> None:
        self.key = key
        self.counts = counts  # the engine's struct nf_flow
        self.turned = turned
        self.asks = asks


class Meter:
    """Flows by the addresses and ports of their two sides, in the order of their last packets.

    A flow ends when it is silent for `idle_ms`, has lasted `active_ms`, or a SYN comes behind its end
    (FIN from both sides, or RST). It is given out when `idle_ms` have gone by since its last packet, so
    that flows come in the order in which they ended; sooner if more than `most_open` are kept. A clock
    that goes back by more than `idle_ms` is that of another capture: all flows end.
    """

    def __init__(self, out: "Writer", idle_ms: int, active_ms: int, most_open: int) -> None:
        from _lib_engine import ffi, lib

        self._ffi, self._lib, self._out = ffi, lib, out
        self._idle_ms, self._active_ms, self._most_open = idle_ms, active_ms, most_open
        self._dissector = _dissector(ffi, lib)
        self._by_key: dict[object, Flow] = {}
        self._by_end: OrderedDict[Flow, None] = OrderedDict()
        self._clock_ms = 0
        self.unreadable = 0
        self.first_unreadable = b""

    def take(self, packet: Any) -> bool:
        """Count a packet; return whether it belongs to a flow."""
        kind = _completed(packet)
        if kind < 0:
            if kind == _UNREADABLE_HEADER:
                self._note(packet)
            return False
        self._advance(packet.time)
        key = _key(packet)
        flow = self._by_key.get(key)
        if flow is None:
            self._open(key, packet, kind, turned=_is_answer(packet, kind))
        elif packet.syn and not packet.ack and _is_closed(flow.counts):
            self._open(key, packet, kind, turned=False)
        else:
            self._count(flow, packet, kind)
        return True

    def finish(self) -> None:
        """Give out all flows that are left."""
        while self._by_end:
            self._give_out()

    def _note(self, packet: Any) -> None:
        self.unreadable += 1
        if not self.first_unreadable:
            self.first_unreadable = bytes(self._ffi.buffer(packet.ip_content, packet.ip_content_len))

    def _advance(self, now_ms: int) -> None:
        if now_ms < self._clock_ms - self._idle_ms:
            self.finish()
            self._clock_ms = now_ms
        self._clock_ms = max(self._clock_ms, now_ms)
        silent_since = self._clock_ms - self._idle_ms
        while self._by_end and _first(self._by_end).counts.bidirectional_last_seen_ms <= silent_since:
            self._give_out()

    def _open(self, key: object, packet: Any, kind: int, *, turned: bool) -> None:
        counts = self._lib.meter_initialize_flow(packet, _PAYLOAD, 1, 0, _DISSECTED, self._dissector, 0)
        if counts == self._ffi.NULL:
            raise MemoryError
        flow = Flow(key, counts, turned=turned, asks=kind in _REQUESTS.get(packet.protocol, ()))
        self._by_key[key] = flow
        self._by_end[flow] = None
        if len(self._by_end) > self._most_open:
            self._give_out()

    def _count(self, flow: Flow, packet: Any, kind: int) -> None:
        counts = flow.counts
        # The engine subtracts times without a sign; packets may stand out of order by some microseconds.
        packet.time = max(packet.time, counts.bidirectional_last_seen_ms)
        ended = self._lib.meter_update_flow(
            counts, packet, self._idle_ms, self._active_ms, _PAYLOAD, 1, 0, _DISSECTED, self._dissector, 0
        )
        if ended:
            # The rest of a long flow keeps its direction, whoever speaks first in it.
            self._open(flow.key, packet, kind, turned=flow.turned ^ _is_from_other_side(counts, packet))
        else:
            self._by_end.move_to_end(flow)

    def _give_out(self) -> None:
        flow, _ = self._by_end.popitem(last=False)
        if self._by_key.get(flow.key) is flow:
            del self._by_key[flow.key]
        self._lib.meter_expire_flow(flow.counts, _DISSECTED, self._dissector)
        self._out.write_row(_row(self._ffi, flow))
        self._lib.meter_free_flow(flow.counts, _DISSECTED, 0, 1)


class Writer:
    """Messages to the process that has started this one, which may take its time to read them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rows: list[bytes] = []

    def write_row(self, row: bytes) -> None:
        """Write a flow, soon."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS_A_MESSAGE:
            self.flush()

    def flush(self) -> None:
        """Write the flows that are left."""
        self._write(FLOWS, b"".join(self._rows))
        self._rows.clear()

    def end(self, summary: dict[str, int | str]) -> None:
        """Write how it ended."""
        self.flush()
        self._write(END, json.dumps(summary).encode())

    def _write(self, kind: bytes, content: bytes) -> None:
        signal.alarm(0)
        self._file.write(MESSAGE.pack(kind, len(content)) + content)
        self._file.flush()
        signal.alarm(_PATIENCE_S)


def _dissector(ffi: Any, lib: Any) -> Any:
    checker = ffi.new("struct dissector_checker *")
    checker.flow_size = ffi.sizeof("struct ndpi_flow_struct")
    dissector = lib.dissector_init(checker)
    if dissector == ffi.NULL:
        raise MemoryError
    lib.dissector_configure(dissector)
    return dissector


def _first(flows: OrderedDict[Flow, None]) -> Flow:
    return next(iter(flows))


def _key(packet: Any) -> tuple[object, ...]:
    a = (packet.src_ip[0], packet.src_ip[1], packet.src_port)
    b = (packet.dst_ip[0], packet.dst_ip[1], packet.dst_port)
    return (packet.ip_version, packet.protocol, *((a, b) if a < b else (b, a)))


def _completed(packet: Any) -> int:
    """Fill in what the engine leaves out; return the type of an ICMP message, 0 for other protocols.

    Below 0 for packets whose ports cannot be known: later fragments, and headers that are malformed or
    not there, for which the engine reads what happens to stand behind the packet in memory.
    """
    ip, captured, protocol = packet.ip_content, packet.ip_content_len, packet.protocol
    header = (ip[0] & 15) * 4 if packet.ip_version == 4 else packet.ip_size - packet.transport_size
    if packet.ip_version == 4 and (ip[6] & 0x1F or ip[7]):
        return _LATER_FRAGMENT
    if header < 20 or captured < header + _HEADER_BYTES.get(protocol, 0):
        return _UNREADABLE_HEADER
    if protocol in _HEADER_BYTES:
        return 0 if packet.transport_size else _UNREADABLE_HEADER
    if protocol in _REQUESTS:
        return int(ip[header]) if captured > header and packet.ip_size > header else _UNREADABLE_HEADER
    _complete_unknown(packet, header if packet.ip_version == 4 else 40)
    return 0


def _complete_unknown(packet: Any, header: int) -> None:
    ip = packet.ip_content
    packet.payload_size = max(0, packet.ip_size - header)
    at_once = packet.ip_version == 4 or ip[6] == packet.protocol  # no extension headers between
    if packet.protocol in _WITH_PORTS and at_once and packet.ip_content_len >= header + 4:
        packet.src_port = ip[header] << 8 | ip[header + 1]
        packet.dst_port = ip[header + 2] << 8 | ip[header + 3]


def _is_answer(packet: Any, kind: int) -> bool:
    """Say whether the first packet that was seen of a flow answers an earlier one."""
    if packet.protocol in _REPLIES:
        return kind in _REPLIES[packet.protocol]
    if packet.syn:
        return bool(packet.ack)
    return packet.src_port in SERVER_PORTS and packet.dst_port not in SERVER_PORTS


def _is_closed(counts: Any) -> bool:
    ended = counts.src2dst_fin_packets and counts.dst2src_fin_packets
    return bool(ended or counts.bidirectional_rst_packets)


def _is_from_other_side(counts: Any, packet: Any) -> bool:
    ours = (counts.src_ip[0], counts.src_ip[1], counts.src_port)
    return ours != (packet.src_ip[0], packet.src_ip[1], packet.src_port)


def _row(ffi: Any, flow: Flow) -> bytes:
    c = flow.counts
    return ROW.pack(
        c.bidirectional_first_seen_ms, c.bidirectional_last_seen_ms,
        bytes(ffi.buffer(c.src_ip)), bytes(ffi.buffer(c.dst_ip)), c.src_port, c.dst_port,
        c.ip_version, c.protocol, flow.turned, flow.asks,
        c.src2dst_packets, c.dst2src_packets, c.src2dst_bytes, c.dst2src_bytes,
        c.src2dst_syn_packets, c.dst2src_syn_packets, c.src2dst_fin_packets, c.dst2src_fin_packets,
        c.src2dst_rst_packets, c.dst2src_rst_packets,
        c.confidence, ffi.string(c.application_name),
    )  # fmt: skip


class Unpacker:
    """A thread that unpacks the standard input into a pipe; libpcap reads no packed files."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self.broken = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with gzip.GzipFile(fileobj=sys.stdin.buffer) as stream, os.fdopen(self._writer, "wb") as pipe:
            try:
                while part := stream.read1(65_536):
                    pipe.write(part)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                self.broken = True
            except BrokenPipeError:
                pass

    def join(self) -> None:
        """Wait until all is unpacked."""
        self._thread.join()


def _packets(ffi: Any, lib: Any, capture: Any) -> Iterator[tuple[int, Any]]:
    """Yield each packet with the engine's word on it: 1 for one that belongs into a flow, 0 for others."""
    while True:
        packet = ffi.new("struct nf_packet *")
        # Tunnels over UDP stay closed: who sends to port 5247 could otherwise hide packets from us.
        found = lib.capture_next(capture, packet, 0, 1, 0, 0)
        yield found, packet
        if found < 0:
            return


def _measure(meter: Meter, source: bytes) -> dict[str, int | str]:
    from _lib_engine import ffi, lib

    error = ffi.new("char[256]")
    capture = lib.capture_open(source, 0, error, 0)
    if capture == ffi.NULL:
        return {"error": ffi.string(error).decode(errors="replace")}
    n_packets = left_out = found = 0
    for found, packet in _packets(ffi, lib, capture):
        if found >= 0:
            n_packets += 1
            left_out += found == 0 or not meter.take(packet)
        if n_packets % 4096 == 0:
            # The system ends us if the C code does not come back.
            signal.alarm(_PATIENCE_S)
    meter.finish()
    return {
        "packets": n_packets,
        "left_out": left_out,
        "unreadable": meter.unreadable,
        "first_unreadable": meter.first_unreadable.hex(),
        "broken": int(found == _BROKEN),
    }


def main() -> None:
    """Read a capture from the standard input, write its flows to the standard output."""
    signal.alarm(_PATIENCE_S)
    out = Writer(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what the engine prints goes with the errors, not between the flows
    meter = Meter(out, *(int(argument) for argument in sys.argv[1:4]))
    packed = os.pread(0, 2, 0) == b"\x1f\x8b"
    unpacker = Unpacker() if packed else None
    summary = _measure(meter, b"-" if unpacker is None else b"/dev/fd/%d" % unpacker.reader)
    if unpacker is not None and summary.get("broken") == 0:
        unpacker.join()
        summary["broken"] = int(unpacker.broken)
    out.end(summary)


if __name__ == "__main__":
    main()
