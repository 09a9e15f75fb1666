"""`weir alerts`: readable for people, raw for programs, harmless to the terminal."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from brokers import fresh_topics
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from connectors.kafka_settings import KafkaSettings
from connectors.publish import publish
from connectors.topics import TopicAdmin, Topics, TopicSpec
from pipeline.cli.alerts import render_alert

ROOT = Path(__file__).parents[3]
GOLDEN = (ROOT / "tests" / "golden" / "alerts.jsonl").read_text(encoding="utf-8").splitlines()
ALERT = json.loads(GOLDEN[0])

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=10,
)


def test_an_alert_reads_who_when_how_unusual_and_why() -> None:
    """First the sentence, then each noise direction with what was observed and expected."""
    assert render_alert(ALERT).plain.split("\n") == [
        f"2023-11-14 22:14:00 MEDIUM   hq  {ALERT['event']['reason']}",
        "    noise direction n3  +31.4 standard deviations, 91 % of the score",
        "        failed connections of the source in the last 60 s: 412, expected 1  (+24.5 s.d.)",
        (
            "        share of failed connections of the source in the last 60 s: 98 %, expected 2.1 %"
            "  (+6.9 s.d.)"
        ),
    ]


def test_what_led_stands_first() -> None:
    """A residual or watched feature that led to the judgement is shown before the noise directions."""
    lines = render_alert(json.loads(GOLDEN[3])).plain.split("\n")

    assert lines[1:4] == [
        "    watched is_icmp  did not change in training",
        "        over ICMP: yes, expected no",
        "    noise direction n1  +5 standard deviations, 50 % of the score",
    ]


def test_severity_has_a_colour_on_a_terminal_and_none_in_a_file() -> None:
    """Colours are for eyes: a file gets the plain text."""
    terminal, file = StringIO(), StringIO()
    Console(file=terminal, force_terminal=True, width=500).print(render_alert(ALERT))
    Console(file=file, width=500).print(render_alert(ALERT))

    assert "\x1b[33mMEDIUM" in terminal.getvalue()
    assert "\x1b" not in file.getvalue()


def _changed(alert: dict[str, Any], path: Sequence[str | int], value: object) -> dict[str, Any]:
    changed: Any = json.loads(json.dumps(alert))
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return dict(changed)


@given(
    path=st.sampled_from(
        [
            ("event", "reason"),
            ("weir", "sensor"),
            ("weir", "noise_directions", 0, "id"),
            ("weir", "noise_directions", 0, "features", 0, "observed"),
            ("weir", "noise_directions", 0, "features", 0, "unit"),
            ("weir", "features", 0, "text"),
        ]
    ),
    text=st.text(st.characters(categories=["Cc", "Cf", "Lu"]), min_size=1),
)
def test_what_a_network_sends_cannot_steer_the_terminal(path: tuple[str | int, ...], text: str) -> None:
    """Names and categories come from outside: control characters are shown, not obeyed."""
    plain = render_alert(_changed(ALERT, path, text)).plain

    assert all(char.isprintable() for char in plain.replace("\n", ""))
    assert plain.count("\n") == 3


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_no_alert_is_shown_as_it_is(body: dict[str, Any]) -> None:
    """Something else in the topic is said to be that, and ends nothing."""
    assert render_alert(body).plain.startswith("not an alert of weir (")


@pytest.mark.parametrize("path", [("event",), ("weir", "panel"), ("@timestamp",), ("weir", "features", 0)])
def test_an_alert_with_a_hole_is_shown_as_it_is(path: tuple[str | int, ...]) -> None:
    """A part that is missing or of another type is named."""
    assert "Expected" in render_alert(_changed(ALERT, path, [])).plain


@pytest.fixture(scope="module")
def topics(local_broker: KafkaSettings) -> Topics:
    """A topic of the golden alerts, each twice, and one message that is no JSON."""
    names = fresh_topics()
    with TopicAdmin(local_broker) as admin:
        admin.create([TopicSpec(name=names.alerts, partitions=1)])
    bodies = [line.encode() for line in GOLDEN]
    publish(local_broker, [(names.alerts, 0, body, []) for body in [*bodies, b"{not json", *bodies]])
    return names


def _start(broker: KafkaSettings, topics: Topics, *arguments: str) -> "subprocess.Popen[str]":
    where = ["--bootstrap-servers", broker.servers, "--prefix", topics.prefix]
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli.main", "alerts", *where, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(broker: KafkaSettings, topics: Topics, *arguments: str) -> tuple[int, list[str], str]:
    with _start(broker, topics, *arguments) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out.splitlines(), err


@pytest.mark.broker
def test_json_gives_the_bytes_once_and_ends_when_idle(local_broker: KafkaSettings, topics: Topics) -> None:
    """Each alert is one line as published; repeats and what is no JSON are left out."""
    code, lines, err = _run(local_broker, topics, "--json", "--from", "beginning", "--idle-timeout", "1")

    assert (code, lines) == (0, GOLDEN)
    assert f"{topics.alerts}/0/{len(GOLDEN)} is no alert" in err


@pytest.mark.broker
def test_ocsf_gives_a_finding_for_each_alert(local_broker: KafkaSettings, topics: Topics) -> None:
    """The same alerts, each once, in the schema of other tools."""
    code, lines, _ = _run(
        local_broker, topics, "--format", "ocsf", "--from", "beginning", "--idle-timeout", "1"
    )

    found = [json.loads(line) for line in lines]
    assert code == 0
    assert [one["metadata"]["uid"] for one in found] == [json.loads(line)["event"]["id"] for line in GOLDEN]
    assert {one["class_uid"] for one in found} == {2004}


def test_what_was_suppressed_reads_as_no_alert() -> None:
    """A report of a suppression has its sentence and no severity that anyone would look up for."""
    report = _changed(ALERT, ("event", "severity"), 0)

    assert render_alert(report).plain.startswith("2023-11-14 22:14:00 INFO     hq  10.0.0.5")


def test_what_is_told_of_a_lane_reads_like_an_alert() -> None:
    """Drift has no sensor and no terms; its sentence stands beside the panel."""
    drift = {
        "@timestamp": "2023-11-14T22:14:00.000000Z",
        "event": {"reason": "normal traffic has moved", "severity": 47},
        "weir": {"panel": "main", "features": [{"name": "duration", "text": "duration", "kind": "numeric"}]},
    }

    assert render_alert(drift).plain == "2023-11-14 22:14:00 MEDIUM   main  normal traffic has moved"


@pytest.mark.broker
def test_limit_ends_after_so_many(local_broker: KafkaSettings, topics: Topics) -> None:
    """A plain pipe gets plain text, one alert after the other."""
    code, lines, _ = _run(local_broker, topics, "--from", "beginning", "--limit", "2")

    expected = [line for body in GOLDEN[:2] for line in render_alert(json.loads(body)).plain.split("\n")]
    assert (code, lines) == (0, expected)


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_told_to_stop_is_no_error(
    local_broker: KafkaSettings, topics: Topics, number: signal.Signals
) -> None:
    """Ctrl-C is how following ends: exit code 0 and no trace."""
    with _start(local_broker, topics, "--json", "--from", "beginning") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        _, err = process.communicate(timeout=60)

    assert first == f"{GOLDEN[0]}\n"
    assert process.returncode == 0
    assert "Traceback" not in err


@pytest.mark.broker
def test_a_reader_that_has_gone_is_no_error(local_broker: KafkaSettings, topics: Topics) -> None:
    """`weir alerts | head -1` ends in silence."""
    with _start(local_broker, topics, "--from", "beginning", "--idle-timeout", "20") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)

    assert process.returncode == 0
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


@pytest.mark.broker
def test_a_topic_that_is_missing_is_named(local_broker: KafkaSettings) -> None:
    """A wrong prefix is one sentence, not a wait for ever."""
    code, _, err = _run(local_broker, Topics("nobody"), "--limit", "1")

    assert code == 1
    assert "topic nobody.alerts.v1 does not exist" in err
