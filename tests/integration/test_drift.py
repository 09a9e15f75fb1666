"""Drift on a real stream: still on a normal day, one alert a window on another one, in the same bytes."""

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from office import friday_source, office_model
from stream import STAGES, Stream, killed

from connectors.kafka_settings import KafkaSettings

LIMIT = 12_000
"""Flows until the afternoon."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    office_model(folder)
    return folder


@pytest.fixture
def streams(broker: KafkaSettings, models: Path, tmp_path: Path) -> Iterator["Streams"]:
    with ExitStack() as stack:
        yield Streams(broker, models, tmp_path, stack)


class Streams:
    """A maker of streams with a budget; all their processes end with the test."""

    def __init__(self, broker: KafkaSettings, models: Path, folder: Path, stack: ExitStack) -> None:
        self._given = (broker, models, folder, stack)
        self._made = 0

    def make(self, *, rows: int = 1000) -> Stream:
        broker, models, folder, stack = self._given
        self._made += 1
        panel = {"models": ["office"], "models_dir": str(models), "budget": "2/h"}
        return stack.enter_context(
            Stream(broker, folder / str(self._made), panel=panel, writer={"rows": rows})
        )


def drifts(alerts: dict[str, bytes]) -> dict[str, bytes]:
    return {key: body for key, body in alerts.items() if json.loads(body)["weir"].get("kind") == "drift"}


@pytest.mark.parametrize("broker", [pytest.param("local_broker", marks=pytest.mark.broker)], indirect=True)
def test_a_normal_day_keeps_to_its_budget(streams: Streams) -> None:
    """No drift alert, and the share of the budget that is used is shown."""
    stream = streams.make()
    stream.start("features", "alerts")
    (detect,) = stream.start("detect")
    stream.send(friday_source(), limit=LIMIT)
    books = stream.settle()

    assert drifts(books.alerts) == {}
    assert "alpha_from_budget" in detect.text
    assert "the rate of the training data" in detect.text


@pytest.mark.parametrize("broker", [pytest.param("local_broker", marks=pytest.mark.broker)], indirect=True)
def test_another_day_is_one_drift_alert_a_window(streams: Streams) -> None:
    """The same bytes from other messages, and from workers that were killed in the middle."""
    calm = streams.make(rows=4000)
    calm.start(*STAGES)
    calm.send(friday_source(factor=10), limit=LIMIT)
    expected = drifts(calm.settle().alerts)

    stream = streams.make(rows=300)
    stream.start(*STAGES)
    stream.send(friday_source(factor=10), limit=LIMIT)
    rng = random.Random(3)
    for stage in ("detect", "alerts"):
        stream.wait_for_verdicts(rng.randrange(300, 3000))
        killed(next(worker for worker in stream.workers if worker.stage == stage))
        stream.start(stage)
    found = drifts(stream.settle(within_s=90).alerts)

    assert len(expected) >= 3
    assert len({json.loads(body)["event"]["start"] for body in expected.values()}) == len(expected)
    assert found == expected
