"""`weir doctor`: what is wrong is found, and told with what to do."""

import json
import socket
from pathlib import Path
from typing import Any

from brokers import fresh_topics

from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin, Topics, TopicSpec
from pipeline.doctor import Finding
from pipeline.health import HealthServer
from pipeline.metrics import Metrics

QUICK = ["--set", "kafka.connect_timeout_s=1", "--bootstrap-servers", "127.0.0.1:1"]
NO_PORT = ["--set", "worker.port=null"]


def findings(weir: Any, *args: str) -> list[Finding]:
    result = weir("doctor", "--json", *args)
    found = [Finding(**json.loads(line)) for line in result.out.splitlines()]
    assert result.code == int(not all(finding.good for finding in found))
    assert all(finding.advice for finding in found if not finding.good)
    return found


def of(found: list[Finding], check: str) -> list[Finding]:
    return [finding for finding in found if finding.check == check]


def test_an_unreachable_broker_does_not_hide_the_rest(weir: Any) -> None:
    found = findings(weir, *QUICK, *NO_PORT)

    (broker,) = of(found, "broker")
    assert not broker.good
    assert "no answer from Kafka at 127.0.0.1:1" in broker.found
    assert [(f.check, f.good) for f in found if f.check != "broker"] == [
        ("settings", True),
        ("model", False),
        ("state", True),
    ]


def test_a_person_reads_what_to_do(weir: Any) -> None:
    result = weir("doctor", *QUICK, *NO_PORT)

    assert result.code == 1
    assert "BAD   broker     cannot reach Kafka" in result.out
    assert "-> start the broker (to try things out: weir broker)" in result.out
    assert result.err == "2 to be mended\n"


def test_a_missing_model_is_named(weir: Any) -> None:
    (model,) = of(findings(weir, *QUICK, *NO_PORT, "--set", "panel.models=nowhere"), "model")

    assert not model.good
    assert model.found.startswith("nowhere: ")


def test_a_state_folder_that_is_a_file_is_found(weir: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (state,) = of(findings(weir, *QUICK, *NO_PORT, "--set", f"worker.state_dir={tmp_path}/file"), "state")

    assert not state.good
    assert "worker.state_dir" in state.advice


def test_a_port_taken_by_a_stranger_is_bad_and_by_a_worker_good(weir: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        first = of(findings(weir, *QUICK, "--set", f"worker.port={port}"), "port")[0]
    with HealthServer("127.0.0.1", 0, Metrics().registry, lambda: None, list) as worker:
        second = of(findings(weir, *QUICK, "--set", f"worker.port={worker.port}"), "port")[0]

    assert (first.good, second.good) == (False, True)
    assert "worker.port" in first.advice


def test_settings_that_do_not_fit_are_found(weir: Any) -> None:
    found = findings(weir, *QUICK, *NO_PORT, "--set", "writer.lane_by=dst")

    assert [finding.good for finding in of(found, "settings")] == [False]


def test_topics_are_compared_with_the_settings(weir: Any, broker: KafkaSettings) -> None:
    topics = fresh_topics()
    at = [*NO_PORT, "--bootstrap-servers", broker.servers, "--prefix", topics.prefix]
    assert {f.found for f in of(findings(weir, *at), "topic")} == {
        f"{name} does not exist" for name in names(topics)
    }

    weir("topics", "create", *at)

    assert all(finding.good for finding in of(findings(weir, *at), "topic"))
    more = [finding.good for finding in of(findings(weir, *at, "--set", "topics.lanes=5"), "topic")]
    assert more == [False, False, False, True, True]


def names(topics: Topics) -> list[str]:
    lanes = [topics.flows, topics.features("conn"), topics.detections("main")]
    return [*lanes, topics.alerts, topics.dead_letters]


def test_a_journal_that_forgets_before_its_flows_is_found(weir: Any, broker: KafkaSettings) -> None:
    """Whoever made the topics: the broker is asked, not the settings."""
    topics = fresh_topics()
    hour = 3_600_000
    kept = dict.fromkeys(names(topics), 48 * hour) | {topics.features("conn"): 24 * hour, topics.flows: -1}
    kept[topics.detections("main")] = -1
    with TopicAdmin(broker) as admin:
        admin.create([TopicSpec(name=name, partitions=4, retention_ms=ms) for name, ms in kept.items()])

    found = of(
        findings(weir, *NO_PORT, "--bootstrap-servers", broker.servers, "--prefix", topics.prefix),
        "retention",
    )

    assert [(finding.good, finding.found) for finding in found] == [
        (False, f"{topics.features('conn')} keeps 24 h, flows for ever"),
        (True, f"{topics.detections('main')} keeps for ever, flows for ever"),
    ]
