"""The features stage: one answer a message, and a lane that comes back from its journal bit for bit."""

from collections.abc import Awaitable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from conn_flows import FLUSH, conn_rows, flows_message
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_workers import DiedError, LaneWorker
from memory_log import MemoryLog

from connectors.dead_letters import DeadLetter
from connectors.topics import Topics
from connectors.wire import Headers, decode
from pipeline.agents.features import FeaturesRole
from pipeline.agents.lane import Out
from pipeline.features.feature_sets import feature_set
from pipeline.messages import FeaturesHeaders

TOPICS = Topics("t")
ROLE = FeaturesRole(feature_set("conn"), TOPICS, max_rows=1000)
FLOWS, FEATURES = TOPICS.flows, ROLE.output_topic


def features_worker(log: MemoryLog, folder: Path, *, dies_at: int | None = None) -> LaneWorker:
    """Return a features worker, which dies before the n-th message it would publish."""
    return LaneWorker(ROLE, log, folder, dies_at=dies_at)


def answers(log: MemoryLog) -> dict[int, tuple[FeaturesHeaders, bytes]]:
    """Return the features message of each flows offset; repeats must be equal to the first."""
    found: dict[int, tuple[FeaturesHeaders, bytes]] = {}
    for message in log.messages(FEATURES):
        headers = FeaturesHeaders.from_kafka(message.headers)
        body = message.value or b""
        assert found.setdefault(headers.flows_offset, (headers, body))[1] == body
    return found


def filled(messages: Sequence[tuple[bytes, Headers]]) -> MemoryLog:
    log = MemoryLog()
    for value, headers in messages:
        log.append(FLOWS, 0, value, headers)
    return log


def split(n_rows: int, size: int) -> list[tuple[bytes, Headers]]:
    return [flows_message(conn_rows(min(size, n_rows - at), first=at)) for at in range(0, n_rows, size)]


def rows_of(log: MemoryLog) -> pa.Table:
    batches = [decode(body) for _, body in answers(log).values()]
    return pa.Table.from_batches(batches).combine_chunks()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_every_message_has_one_answer(folder: Path) -> None:
    """Flush, garbage, empty and good messages are each answered once, in order."""
    garbage = (b"no arrow", flows_message(conn_rows(3))[1])
    no_headers: tuple[bytes, Headers] = (b"", [])
    log = filled([*split(60, 20), FLUSH, garbage, no_headers, flows_message(conn_rows(0)), *split(0, 5)])

    features_worker(log, folder).run(0)

    assert list(range(7)) == list(answers(log))
    assert [headers.rows for headers, _ in answers(log).values()] == [20, 20, 20, 0, 0, 0, 0]
    assert answers(log)[3][0].flush
    letters = [DeadLetter.from_kafka(m.headers, m.value) for m in log.messages(TOPICS.dead_letters)]
    assert [letter.reason for letter in letters] == ["not_arrow", "missing_header"]
    assert [letter.value for letter in letters] == [b"no arrow", b""]


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 90),
    deaths=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), max_size=4),
    gap=st.integers(0, 3),
)
def test_deaths_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, size: int, deaths: list[tuple[int, int]], gap: int
) -> None:
    """However often a worker dies, and whatever it had committed, the features are the same bits."""
    folder = tmp_path_factory.mktemp("state")
    calm = filled(split(300, 300))
    features_worker(calm, folder).run(0)
    log = filled(split(150, size))
    log.skip(FLOWS, 0, gap)
    for at in range(150, 300, size):
        value, headers = flows_message(conn_rows(min(size, 300 - at), first=at))
        log.append(FLOWS, 0, value, headers)

    for dies_at, behind in deaths:
        committed = max(0, len(answers(log)) - behind)
        features_worker(log, folder, dies_at=dies_at).run(committed)
    features_worker(log, folder).run(0)

    assert rows_of(calm).equals(rows_of(log))


def test_committed_ahead_of_the_journal_loses_nothing(folder: Path) -> None:
    """Messages between journal and committed offset are read and answered after all."""
    log = filled(split(100, 10))
    features_worker(log, folder).run(0)
    expected = rows_of(log)
    short = filled(split(100, 10))
    for message in log.messages(FEATURES)[:4]:
        short.append(FEATURES, 0, message.value or b"", list(message.headers))

    features_worker(short, folder).run(8)

    assert expected.equals(rows_of(short))


@pytest.mark.parametrize("forgets_at", range(6))
def test_a_rebalance_while_catching_up_changes_nothing(folder: Path, forgets_at: int) -> None:
    """A lane that is dropped in the middle of a gap comes back and takes every message once."""
    # Without a source in the headers nothing else would recognise a message that is taken twice.
    anonymous = [flows_message(conn_rows(10, first=at), source="") for at in range(0, 100, 10)]
    log, short = filled(anonymous), filled(anonymous)
    features_worker(log, folder).run(0)
    for message in log.messages(FEATURES)[:3]:
        short.append(FEATURES, 0, message.value or b"", list(message.headers))
    worker = features_worker(short, folder)
    publish = worker.carrier._outbox._send

    async def forgetful(out: Out) -> Awaitable[object]:
        durable = await publish(out)
        if len(short.messages(FEATURES)) == 4 + forgets_at:
            worker.carrier.forget()
        return durable

    worker.carrier._outbox._send = forgetful
    worker.run(8)

    assert rows_of(log).equals(rows_of(short))


def test_repeated_rows_are_dropped_also_after_a_restart(folder: Path) -> None:
    """A retry with other batch bounds enters the windows once, live and re-read alike."""
    calm = filled(split(200, 50))
    features_worker(calm, folder).run(0)
    again = [flows_message(conn_rows(60, first=20)), flows_message(conn_rows(10, first=0))]
    log = filled([*split(200, 50)[:2], *again, *split(200, 50)[2:]])
    features_worker(log, folder, dies_at=None).run(0)

    assert rows_of(calm).equals(rows_of(log))
    assert [headers.repeated for headers, _ in answers(log).values()] == [0, 0, 60, 10, 0, 0]
    restarted = filled([*split(200, 50)[:2], *again])
    features_worker(restarted, folder).run(0)
    for value, headers in split(200, 50)[2:]:
        restarted.append(FLOWS, 0, value, headers)
    features_worker(restarted, folder).run(4)

    assert rows_of(calm).equals(rows_of(restarted))


def test_bad_rows_take_no_place(folder: Path) -> None:
    """The features of good rows are those of a stream without the bad ones."""
    good = conn_rows(40)
    duration = good.schema.get_field_index("duration")
    values = good.column("duration").to_pylist()
    values[7] = float("nan")
    spoilt = good.set_column(duration, good.schema.field(duration), pa.array(values))
    kept = good.take(pa.array([i for i in range(40) if i != 7]))
    log, clean = filled([flows_message(spoilt)]), filled([flows_message(kept)])

    features_worker(log, folder).run(0)
    features_worker(clean, folder).run(0)

    assert rows_of(clean).equals(rows_of(log))
    (letter,) = [DeadLetter.from_kafka(m.headers, m.value) for m in log.messages(TOPICS.dead_letters)]
    assert (letter.reason, letter.flow_id, letter.row) == ("not_finite", "f7", 7)
    assert decode(letter.value).column("flow_id").to_pylist() == ["f7"]


def test_poison_is_skipped_when_windows_are_warmed(tmp_path: Path) -> None:
    """A message that was dead-lettered as poison stays out of the windows of a restarted worker."""
    log = filled(split(90, 30))
    refuses = features_worker(log, tmp_path)
    refuses.carrier._trial = lambda message: message.offset != 1
    refuses.carrier._attempts.limit = 0
    refuses.run(0)
    expected = rows_of(log)
    value, headers = flows_message(conn_rows(30, first=90))
    log.append(FLOWS, 0, value, headers)
    twin = filled([*split(90, 30), (value, headers)])
    for message in log.messages(FEATURES):
        twin.append(FEATURES, 0, message.value or b"", list(message.headers))

    refuses.run(3)
    features_worker(twin, tmp_path / "other").run(3)

    assert expected.num_rows == 60
    assert rows_of(log).equals(rows_of(twin))
    assert FeaturesHeaders.from_kafka(twin.messages(FEATURES)[-1].headers).skipped == (1,)


def test_a_flows_topic_made_anew_is_refused(folder: Path) -> None:
    """A journal that is ahead of its input ends the worker instead of skipping the new flows."""
    log = filled(split(90, 10))
    features_worker(log, folder).run(0)
    log.drop(FLOWS)
    for value, headers in split(20, 10):
        log.append(FLOWS, 0, value, headers)

    with pytest.raises(DiedError, match="78"):
        features_worker(log, folder).run(0)


def test_lost_offsets_are_reported(folder: Path) -> None:
    """What retention deleted before it was read is an incident with its range."""
    log = filled(split(100, 10))
    features_worker(log, folder, dies_at=None).run(8)
    lost = MemoryLog()
    for message in log.messages(FEATURES)[:3]:
        lost.append(FEATURES, 0, message.value or b"", list(message.headers))
    for value, headers in split(100, 10):
        lost.append(FLOWS, 0, value, headers)
    lost.cut(FLOWS, 0, 6)

    restored = ROLE.restore(lost, 0, 6)

    (incident,) = restored.incidents
    assert (incident.kind, incident.offsets) == ("offsets_lost", 3)
    assert "offsets 3 to 5" in incident.detail


def test_a_lost_journal_is_reported_and_made_again(folder: Path) -> None:
    """An empty features topic under a committed offset: reported, and answered from the log's start."""
    log = filled(split(100, 10))

    restored = ROLE.restore(log, 0, 6)
    features_worker(log, folder).run(6)

    assert [incident.kind for incident in restored.incidents] == ["lane_state_lost"]
    assert list(range(10)) == sorted(answers(log))
