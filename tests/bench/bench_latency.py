"""Latency from event to alert under a steady load: `python tests/bench/bench_latency.py --help`.

A flow ends, is handed to the writer, waits for its message to fill or its linger, passes the workers,
and its alert is read by a subscriber. Broker time stamps show the parts.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rig
from load import Load, with_outliers, write
from rig import Aim, Plot, Report, Table
from workers import Stream, full_window, modes, percentiles, stream, train_on, way

from connectors.alerts_subscriber import AlertsSubscriber
from connectors.base import Chunk
from connectors.broker_kafka import kafka_broker
from connectors.broker_local import local_broker
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.kafka_writer import FlowsWriter, WriterOptions
from connectors.records import CONN
from connectors.wire import header_dict
from pipeline.messages import DetectionsHeaders

PROTOCOL = """
Flows of `conn@1` among 10,000 random hosts come at a steady rate of wall time, each with the time at
which it is due as its event time; every 10 ms what is due is handed to the writer (`FlowsWriter`, 4,000
rows a message, linger {linger} s). {planted} of them a second are absurd and give an alert each, without
grouping. The latency is the wall time at which a subscriber has the alert less the event time, all on one
machine with all processes. Before, the windows are filled with {cap} s of flows at the same rate (at most
2^20 rows), of which the model (BEAA) has learned. The greatest load is that of a writer that goes as fast as
it can: flows over the time from the first flow to the last verdict. The parts are differences of the
broker's time stamps (log append time). One run each.
"""
LINGER_S = 0.2
PLANTED_PER_S = 20
TICK_S = 0.01
UNREAD_S = 20.0
SETTLE_S = 2.0
PAUSE_S = 15.0
"""About the time between the flows that fill the windows and the first live one."""
RATES = (1_000.0, 50_000.0)
GREATEST_ROWS = 4_000
BROKER = {"log.message.timestamp.type": "LogAppendTime", "log.segment.delete.delay.ms": "1000"}

PARTS = {
    "two hops": ("writer", "features", "detect", "alerts", "subscriber"),
    "inline": ("writer", "detect", "alerts", "subscriber"),
}


@dataclass(frozen=True, slots=True)
class Read:
    """An alert as the subscriber got it."""

    read_s: float
    event_s: float
    source: str
    stamp_ms: int
    origin: int  # offset of its detections message


@dataclass(kw_only=True)
class Latency:
    """What one run measured."""

    mode: str
    wanted: float  # flows a second
    rate: float = 0.0  # those that came
    n_planted: int = 0
    alerts: list[Read] = field(default_factory=list)
    parts: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)  # seconds, one an alert

    @property
    def seconds(self) -> list[float]:
        """From event to reading, of every alert."""
        return [alert.read_s - alert.event_s for alert in self.alerts]

    @property
    def n_found(self) -> int:
        """Planted flows whose alert was read."""
        return sum(alert.source.startswith("30.") for alert in self.alerts)

    def row(self) -> list[str | float | None]:
        """Return its line of the table."""
        p50, p99, most = percentiles(self.seconds, 50, 99, 100)
        found = f"{self.n_found} of {self.n_planted}"
        return [self.mode, self.wanted, self.rate, p50, p99, most, len(self.alerts), found]

    def part_rows(self) -> list[list[str | float | None]]:
        """Return the lines of the parts."""
        told = {name: percentiles(values, 50, 99) for name, values in self.parts.items()}
        return [[self.mode, self.wanted, name, *values] for name, values in told.items()]


class Subscriber:
    """Reads alerts in a thread as they come."""

    def __init__(self, running: Stream) -> None:
        self._alerts = AlertsSubscriber(running.settings.kafka, running.topics)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self.read: list[Read] = []

    @contextmanager
    def following(self) -> Iterator["Subscriber"]:
        """Follow the alerts topic until the block ends."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()
            self._alerts.close()

    def _follow(self) -> None:
        for received in self._alerts.follow("beginning", stop=self._stop):
            body, message = received.alert, received.message
            origin = header_dict(message.headers)["weir-origin"].decode().split("/")
            event_s = datetime.fromisoformat(body["@timestamp"]).timestamp()
            source = body["source"]["ip"]
            self.read.append(Read(time.time(), event_s, source, message.timestamp_ms, int(origin[2])))


class LiveWriter:
    """Hands flows to the real writer as they come due."""

    def __init__(self, running: Stream, load: Load) -> None:
        self._load = load
        self._writer = FlowsWriter(
            running.settings.kafka,
            running.topics,
            source_id=f"live-{load.source_id}",
            record_type=CONN,
            options=WriterOptions(rows=load.rows, linger_s=LINGER_S),
        )
        self.n_sent = self.n_planted = 0

    def run(self, seconds: float) -> float:
        """Write for so long; return the flows a second that came."""
        begun, calls = time.time(), 0
        with self._writer as writer:
            while (now := time.time()) - begun < seconds:
                n_due = int((now - begun) * self._load.rate) - self.n_sent
                if n_due:
                    writer.write(self._due(calls, n_due, begun, now))
                    calls += 1
                writer.tick()
                time.sleep(TICK_S)
            writer.finish()
        return self.n_sent / (time.time() - begun)

    def _due(self, call: int, n: int, begun: float, now: float) -> Chunk:
        first = self.n_sent
        due_s = begun + np.arange(first, first + n) / self._load.rate
        rows = self._load.rows_at(call, first, (due_s * 1e6).astype(np.int64))
        n_wanted = int((now - begun) * PLANTED_PER_S) - self.n_planted
        if n_wanted > 0:
            at = np.linspace(0, n - 1, min(n_wanted, n)).astype(np.int64)
            rows = with_outliers(rows, at, np.arange(self.n_planted, self.n_planted + at.size))
            self.n_planted += at.size
        self.n_sent += n
        return Chunk(rows=rows, first=first, next=self.n_sent)


class Bench:
    """The runs on one broker."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self._kafka = kafka
        self._folder = folder
        self._n_prefixes = 0
        self._models: dict[float, str] = {}

    @contextmanager
    def _running(self, mode: str, load: Load) -> Iterator[Stream]:
        """Give a stream whose windows are full and up to date, with a model of the load."""
        if load.rate not in self._models:
            self._models[load.rate] = f"m{len(self._models)}"
            train_on(self._folder, load, self._models[load.rate], pause_s=PAUSE_S)
        self._n_prefixes += 1
        sections: dict[str, Any] = {
            "panel": {"models": self._models[load.rate]},
            "grouping": {"enabled": False},
        }
        with stream(self._kafka, self._folder, f"latency{self._n_prefixes}", mode, **sections) as running:
            n_messages = -(-full_window(load) // load.rows)
            start_us = round((time.time() - n_messages * load.rows / load.rate) * 1e6)
            earlier = replace(load, start_us=start_us, seed=7)
            write(self._kafka, running.topics, earlier.messages(n_messages * load.rows))
            running.wait_answered(n_messages)
            yield running

    def greatest(self, mode: str, n_flows: int) -> float:
        """Return the flows a second that pass with a writer that goes as fast as it can."""
        load = Load(rate=100_000.0, rows=GREATEST_ROWS)
        with self._running(mode, load) as running:
            live = replace(load, start_us=round(time.time() * 1e6), seed=3)
            options = WriterOptions(rows=load.rows, linger_s=LINGER_S)
            writer = FlowsWriter(
                self._kafka, running.topics, source_id=live.source_id, record_type=CONN, options=options
            )
            before, begun = running.answered(), time.monotonic()
            with writer:
                for index in range(n_flows // load.rows):
                    first = index * load.rows
                    writer.write(Chunk(rows=live.batch(index), first=first, next=first + load.rows))
            running.wait_answered(before + n_flows // load.rows)
            return n_flows / (time.monotonic() - begun)

    def run(self, mode: str, rate: float, seconds: float) -> Latency:
        """Measure the latency at a rate."""
        found = Latency(mode=mode, wanted=rate)
        load = Load(rate=rate)
        with self._running(mode, load) as running, Subscriber(running).following() as subscriber:
            time.sleep(SETTLE_S)
            begun = time.time()
            live = LiveWriter(running, load)
            found.rate = live.run(seconds)
            found.n_planted = live.n_planted
            deadline = time.monotonic() + UNREAD_S
            while time.monotonic() < deadline and found.n_found < found.n_planted:
                time.sleep(0.1)
                found.alerts = [alert for alert in list(subscriber.read) if alert.event_s >= begun]
            found.parts = parts(running, mode, found.alerts)
        return found


def parts(running: Stream, mode: str, alerts: list[Read]) -> dict[str, npt.NDArray[np.float64]]:
    """Return the seconds that each alert spent on each part of its way, by the broker's time stamps."""
    if not alerts:
        return {}
    topics = way(running.settings, mode)
    with KafkaReader(running.settings.kafka) as reader:
        answers = _stamps(reader, topics[-1])
        first = {topic: _stamps(reader, topic) for topic in topics[:-1]}
    hops = []
    for alert in alerts:
        stamp_ms, headers = answers[alert.origin]
        read = DetectionsHeaders.from_kafka(headers)
        offsets = (read.flows_offset, read.input_offset)[: len(first)]
        stamps = [first[topic][offset][0] for topic, offset in zip(first, offsets, strict=True)]
        hops.append([alert.event_s, *(ms / 1e3 for ms in (*stamps, stamp_ms, alert.stamp_ms)), alert.read_s])
    steps = np.diff(np.array(hops), axis=1)
    return {name: steps[:, index] for index, name in enumerate(PARTS[mode])}


def _stamps(reader: KafkaReader, topic: str) -> dict[int, tuple[int, Any]]:
    begin, end = reader.offsets(topic)[0]
    return {m.offset: (m.timestamp_ms, m.headers) for m in reader.read_range(topic, 0, begin, end)}


def measure(bench: Bench, args: argparse.Namespace, report: Report) -> None:
    """Fill the report."""
    found: list[Latency] = []
    greatest: list[list[str | float | None]] = []
    for mode in args.modes:
        most = args.greatest or bench.greatest(mode, 400_000 if args.short else 3_000_000)
        greatest.append([mode, most])
        print(f"{mode}: greatest load {most:,.0f} flows/s", flush=True)
        for rate in (*RATES, round(most / 2, -3)):
            found.append(bench.run(mode, rate, args.seconds))
            print(" ".join(rig.shown(value) for value in found[-1].row()), flush=True)
    columns = ["mode", "flows/s wanted", "came", "p50, s", "p99, s", "longest, s", "alerts", "planted, read"]
    report.tables = [
        Table(title="Greatest load", columns=["mode", "flows/s"], rows=greatest),
        Table(title="From event to alert", columns=columns, rows=[each.row() for each in found]),
        Table(
            title="Its parts",
            columns=["mode", "flows/s", "part", "p50, s", "p99, s"],
            rows=[row for each in found for row in each.part_rows()],
            note="Writer: from event to log, waiting for a full message or the linger; then each worker, "
            "until its answer is in the log; subscriber: until the alert is read.",
        ),
    ]
    for each in found:
        (p99,) = percentiles(each.seconds, 99)
        what = f"{each.mode}, {each.wanted:,.0f} flows/s: p99 from event to alert"
        report.aims.append(Aim(what=what, wanted=1.0, measured=p99, unit="s", at_most=True))
    shares = np.linspace(0, 100, 101)
    lines: dict[str, Any] = {
        f"{each.mode}, {each.wanted:,.0f}/s": (percentiles(each.seconds, *shares), shares.tolist())
        for each in found
    }
    report.plots = [
        Plot(
            title="Latency from event to alert", x_label="s", y_label="% of alerts within", lines=lines,
            log_x=True,
        )
    ]  # fmt: skip


@contextmanager
def broker(args: argparse.Namespace) -> Iterator[KafkaSettings]:
    """Run the broker asked for; Apache Kafka stamps messages when it appends them."""
    chosen = kafka_broker(properties=BROKER) if args.broker == "kafka" else local_broker()
    with chosen as kafka:
        yield kafka


def main() -> None:
    """Measure and report."""
    parser = rig.arguments(__doc__)
    parser.add_argument("--modes", nargs="+", choices=modes(), help="default: all; short: the last")
    parser.add_argument("--seconds", type=float, help="of each run (30, short: 8)")
    parser.add_argument("--greatest", type=float, metavar="RATE", help="flows/s; measured where left out")
    args = parser.parse_args()
    args.modes = args.modes or (modes()[-1:] if args.short else modes())
    args.seconds = args.seconds or (8.0 if args.short else 30.0)
    protocol = PROTOCOL.strip().format(linger=LINGER_S, planted=PLANTED_PER_S, cap=60)
    report = Report(name="latency", title="Latency from event to alert", protocol=protocol)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name, broker(args) as kafka:
        measure(Bench(kafka, Path(name)), args, report)
    report.finish(args)


if __name__ == "__main__":
    main()
