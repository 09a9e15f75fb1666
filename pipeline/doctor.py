"""Checks of an installation, each with what to do."""

import json
import socket
import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from connectors.errors import BrokerError
from connectors.topics import TopicAdmin, TopicSpec
from pipeline.findings import Finding, panel_findings
from pipeline.settings import Settings
from pipeline.topic_plan import conflicts, hours, stages, too_short, topic_specs


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield what each check found: settings, broker, topics, models, folders, port."""
    yield from _settings(settings)
    yield from _kafka(settings)
    yield from panel_findings(settings)
    yield _state_dir(settings.worker.state_dir)
    yield from _ports(settings)


def _settings(settings: Settings) -> Iterator[Finding]:
    problems = conflicts(settings)
    for problem in problems:
        yield Finding(check="settings", good=False, found=problem, advice="correct it; see: weir config show")
    if not problems:
        yield Finding(check="settings", good=True, found="fit together")


def _kafka(settings: Settings) -> Iterator[Finding]:
    """Yield on the broker and, if it answers, on the topics."""
    specs = topic_specs(settings)
    names = [spec.name for spec in specs]
    try:
        with TopicAdmin(settings.kafka) as admin:
            partitions = admin.partitions(names)
            kept = admin.retention_ms(sorted(partitions))
    except BrokerError as error:
        advice = "start the broker (to try things out: weir broker), or correct the kafka settings"
        yield Finding(check="broker", good=False, found=str(error), advice=advice)
        return
    yield Finding(check="broker", good=True, found=f"answers at {settings.kafka.servers}")
    for spec in specs:
        yield _topic(spec, partitions.get(spec.name))
    yield from _retention(specs, kept)


def _topic(spec: TopicSpec, partitions: int | None) -> Finding:
    if partitions is None:
        return Finding(
            check="topic", good=False, found=f"{spec.name} does not exist", advice="run: weir topics create"
        )
    good = partitions == spec.partitions
    found = f"{spec.name} has {partitions} partitions" + ("" if good else f", expected {spec.partitions}")
    advice = "" if good else f"set topics.lanes to {partitions}, or delete the topics and create them again"
    return Finding(check="topic", good=good, found=found, advice=advice)


def _retention(specs: list[TopicSpec], kept: dict[str, float]) -> Iterator[Finding]:
    """Yield on the journals: features and detections must outlive the flows that they tell of."""
    flows, *journals = (spec.name for spec in specs[:-2])  # what follows are alerts and dead letters
    for journal in journals:
        if flows in kept and journal in kept:
            found = f"{journal} keeps {hours(kept[journal])}, flows {hours(kept[flows])}"
            advice = too_short(kept, flows, journal)
            yield Finding(check="retention", good=not advice, found=found, advice=advice)


def _state_dir(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        found = f"{folder} cannot be written ({error.strerror})"
        advice = "give this user the right to write there, or set worker.state_dir"
        return Finding(check="state", good=False, found=found, advice=advice)
    return Finding(check="state", good=True, found=f"{folder} can be written")


def _ports(settings: Settings) -> Iterator[Finding]:
    """Yield on the port of each worker, as `weir worker all` counts them."""
    host, first = settings.worker.host, settings.worker.port
    if not first:
        return
    for index, worker in enumerate(stages(settings)):
        yield _port(host, first + index, worker)


def _port(host: str, port: int, worker: str) -> Finding:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return Finding(check="port", good=True, found=f"{port} on {host} is free ({worker})")
    except OSError as error:
        if _is_worker(host, port):
            return Finding(check="port", good=True, found=f"{port} on {host}: a weir worker runs there")
        found = f"{port} on {host} cannot be used: {error.strerror or error}"
    advice = "stop what listens there, or set worker.port (0 takes a free one, null none)"
    return Finding(check="port", good=False, found=found, advice=advice)


def _is_worker(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/live")
        body = json.loads(connection.getresponse().read(4096))
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(body, dict) and "live" in body
