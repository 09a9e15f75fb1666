"""A worker that was taken for dead goes on while its lane is restored by another."""

from pathlib import Path

import pytest
from conn_flows import FLUSH, conn_rows, flows_message
from lane_workers import CONN_SET, TOPICS, LaneWorker, conn_bundle
from memory_log import MemoryLog

from connectors.kafka_reader import Message
from connectors.wire import Headers
from detectors.base import Detector
from detectors.pu_gan import PUGAN
from detectors.robust_z import RobustZScore
from pipeline.agents.detect import DetectRole
from pipeline.agents.features import FeaturesRole
from pipeline.agents.inline import InlineRole
from pipeline.agents.lane import Role
from pipeline.judge import Judge
from pipeline.messages import DetectionsHeaders, FeaturesHeaders
from pipeline.panel import Panel

N, ROWS = 24, 20
"""Messages, and rows in each: ten seconds."""

BUCKET_S = 25.0

FEATURES_ROLE = FeaturesRole(CONN_SET, TOPICS, max_rows=1000)


class MovingLog(MemoryLog):
    """A log of which more becomes visible at each question: others write while somebody reads."""

    def __init__(self, whole: MemoryLog, role: Role, n: int) -> None:
        super().__init__()
        self._sources = [whole.messages(topic) for topic in (role.input_topic, role.journals[-1])]
        self.moving = False
        self._go_on(n)

    def _go_on(self, n: int = 1) -> None:
        """Let the next input messages come, and the answers to them."""
        for messages in self._sources:
            self.come(messages, n)

    def come(self, messages: list[Message], n: int) -> None:
        """Let the next `n` of a topic's messages come."""
        here = len(self.messages(messages[0].topic))
        for m in messages[here : here + n]:
            self.append(m.topic, m.partition, m.value or b"", list(m.headers), m.key)

    def offsets(self, topic: str) -> dict[int, tuple[int, int]]:
        found = super().offsets(topic)
        if self.moving:
            self._go_on()
        return found

    def last_messages(self, topic: str, partition: int, n: int) -> list[Message]:
        found = super().last_messages(topic, partition, n)
        if self.moving:
            self._go_on()
        return found


def detect_role(detector: Detector, folder: Path) -> DetectRole:
    bundle = conn_bundle(folder, "small", detector)
    panel = Panel(name="main", alpha=0.2, bundles=(bundle,))
    return DetectRole(CONN_SET, Judge(panel, first=1, bucket_s=BUCKET_S), TOPICS, begin="earliest")


@pytest.fixture(scope="module", params=["features", "detect", "looking back", "inline"])
def role(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Role:
    """Return a stage; one that judges row by row, and one that looks back on rows of messages before."""
    models = tmp_path_factory.mktemp("models")
    if request.param == "features":
        return FEATURES_ROLE
    if request.param == "looking back":
        pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")
        return detect_role(PUGAN(length=31, hidden=4, latent=2, components=4, epochs=1), models)
    detect = detect_role(RobustZScore(), models)
    return detect if request.param == "detect" else InlineRole(FEATURES_ROLE, detect)


@pytest.fixture(scope="module")
def whole(role: Role, tmp_path_factory: pytest.TempPathFactory) -> MemoryLog:
    """Return a log that the stage went through undisturbed."""
    log = MemoryLog()
    for index in range(N):
        log.append(TOPICS.flows, 0, *flows_message(conn_rows(ROWS, first=ROWS * index)))
    log.append(TOPICS.flows, 0, *FLUSH)
    before = [FEATURES_ROLE] if isinstance(role, DetectRole) else []
    for number, stage in enumerate([*before, role]):
        assert LaneWorker(stage, log, tmp_path_factory.mktemp(f"state-{number}")).run()
    return log


def answers(log: MemoryLog, role: Role) -> dict[int, tuple[bytes, Headers]]:
    """Return body and headers of each flows offset's answer; repeats must be equal to the first."""
    headers = FeaturesHeaders if role is FEATURES_ROLE else DetectionsHeaders
    found: dict[int, tuple[bytes, Headers]] = {}
    for message in log.messages(role.journals[-1]):
        answer = (message.value or b"", list(message.headers))
        offset = headers.from_kafka(message.headers).flows_offset
        assert found.setdefault(offset, answer) == answer
    return found


@pytest.mark.parametrize("n", range(1, N - 6, 3))
def test_a_zombie_that_goes_on_while_a_lane_is_restored_changes_nothing(
    role: Role, whole: MemoryLog, n: int, tmp_path: Path
) -> None:
    """What it answers is no contradiction, and what is answered again is the same to the byte."""
    log = MovingLog(whole, role, n)
    worker = LaneWorker(role, log, tmp_path)

    log.moving = True
    assert worker.run(committed=n - 1)
    log.moving = False
    assert len(log.messages(role.input_topic)) > n
    log.come(whole.messages(role.input_topic), n=N)
    assert worker.run(committed=n - 1)

    assert answers(log, role) == answers(whole, role)
