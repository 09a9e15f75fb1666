"""A capture keeps every flow of the features topic once, in files that are complete or not there."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conn_flows import FLUSH, conn_rows, flows_message
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_workers import CONN_SET, TOPICS, LaneWorker
from memory_log import MemoryLog

from pipeline.agents.features import FeaturesRole
from pipeline.capture import Capture, Limits, keep_what_is_there
from pipeline.capture_files import PARTIAL, CaptureFile, capture_files, captured_rows, locked
from pipeline.errors import BusyError, CaptureError, FeatureSetError
from pipeline.features.arrays import times_us
from pipeline.features.kdd99 import KDD99

N_MESSAGES, ROWS = 14, 20
ROLE = FeaturesRole(CONN_SET, TOPICS, max_rows=1000)
TOPIC = ROLE.output_topic


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 0.0
    limits: Limits = field(default_factory=Limits)

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> MemoryLog:
    """Return a log with the features of 14 messages, a flush and a broken one among them."""
    log = MemoryLog()
    for index in range(N_MESSAGES):
        log.append(TOPICS.flows, 0, *flows_message(conn_rows(ROWS, first=ROWS * index)))
        if index == 5:
            log.append(TOPICS.flows, 0, *FLUSH)
            log.append(TOPICS.flows, 0, b"no arrow", flows_message(conn_rows(3))[1])
    LaneWorker(ROLE, log, tmp_path_factory.mktemp("state")).run()
    return log


def copied(features: MemoryLog, order: list[int] | None = None) -> MemoryLog:
    log = MemoryLog()
    messages = features.messages(TOPIC)
    for index in order if order is not None else range(len(messages)):
        log.append(TOPIC, 0, messages[index].value or b"", list(messages[index].headers))
    return log


def opened(folder: Path, limits: Limits | None = None, clock: Clock | None = None) -> Capture:
    folder.mkdir(exist_ok=True)
    return Capture(folder, TOPIC, CONN_SET, limits or Limits(), now=clock or Clock())


def keep(log: MemoryLog, capture: Capture, most: int | None = None) -> Capture:
    """Keep what a log holds, or about `most` rows of it, and complete the files."""
    keep_what_is_there(log, TOPIC, capture, lambda n_rows: most is None or n_rows < most)
    capture.close()
    return capture


def kept_rows(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file.path) for file in capture_files(folder)])


def expected_rows(features: MemoryLog) -> pa.Table:
    from connectors.wire import decode

    bodies = [m.value for m in features.messages(TOPIC) if m.value and dict(m.headers)["weir-rows"] != b"0"]
    return pa.Table.from_batches([decode(body) for body in bodies])


@settings(max_examples=25, deadline=None)
@given(
    stops=st.lists(st.integers(1, N_MESSAGES * ROWS), max_size=4),
    file_rows=st.integers(1, 150),
    repeated=st.lists(st.integers(0, N_MESSAGES - 1), max_size=3),
)
def test_every_flow_is_kept_once(
    features: MemoryLog,
    tmp_path_factory: pytest.TempPathFactory,
    stops: list[int],
    file_rows: int,
    repeated: list[int],
) -> None:
    """However often it was ended, whatever the files' size, and whatever a dead worker repeated."""
    folder = tmp_path_factory.mktemp("capture")
    order = list(range(len(features.messages(TOPIC))))
    for index in sorted(repeated, reverse=True):
        order.insert(index + 1, index)
    log = copied(features, order)
    for most in [*stops, None]:
        keep(log, opened(folder, Limits(rows=file_rows)), most)

    assert expected_rows(features).equals(kept_rows(folder).replace_schema_metadata(None))
    assert captured_rows(folder) == N_MESSAGES * ROWS


def test_name_and_metadata_say_what_a_file_holds(features: MemoryLog, tmp_path: Path) -> None:
    log = copied(features)
    keep(log, opened(tmp_path))
    (file,) = capture_files(tmp_path)
    times = times_us(kept_rows(tmp_path).combine_chunks().to_batches()[0])

    assert (0, len(log.messages(TOPIC)), 0) == (file.first, file.next, file.lane)
    assert (int(times.min()), int(times.max())) == (file.first_us, file.last_us)
    assert CONN_SET.id == file.feature_set
    assert file.path.name == file.name
    for part in (TOPIC, CONN_SET.hash, "lane0000", "000000000000-000000000015", "19700101T0016"):
        assert part in file.name


def test_a_killed_capture_leaves_complete_files_alone(features: MemoryLog, tmp_path: Path) -> None:
    """What was half written is not seen, is read again, and its leavings go."""
    log = copied(features)
    killed = opened(tmp_path, Limits(rows=100))
    keep_what_is_there(log, TOPIC, killed, lambda n_rows: n_rows < 250)
    (left,) = tmp_path.glob(f"{PARTIAL}*")
    half = left.read_bytes()
    assert [file.rows for file in capture_files(tmp_path)] == [100, 100]
    killed.close()
    killed.files[-1].path.unlink()
    left.write_bytes(half)

    keep(log, opened(tmp_path, Limits(rows=100)))

    assert captured_rows(tmp_path) == N_MESSAGES * ROWS
    assert not left.exists()


def test_what_the_log_has_lost_is_told(features: MemoryLog, tmp_path: Path) -> None:
    """A range that retention took between two runs is named, and in the next file's metadata."""
    log = copied(features)
    keep(log, opened(tmp_path), most=3 * ROWS)
    log.cut(TOPIC, 0, 5)
    capture = keep(log, opened(tmp_path))

    assert [f"{TOPIC}/0: offsets 3 to 4 have left the log"] == capture.lost
    assert [file.lost_before for file in capture_files(tmp_path)] == [0, 2]


def test_files_are_complete_after_their_time(features: MemoryLog, tmp_path: Path) -> None:
    """A quiet lane is not kept waiting."""
    clock = Clock()
    capture = opened(tmp_path, Limits(seconds=60.0), clock)
    capture.take(features.messages(TOPIC)[0])
    capture.tick()
    assert not capture_files(tmp_path)
    clock.now = 60.0
    capture.tick()

    assert [file.rows for file in capture_files(tmp_path)] == [ROWS]


def test_the_newest_files_are_kept(features: MemoryLog, tmp_path: Path) -> None:
    """Beyond the whole size the oldest files go, and a later run still goes on behind the last one."""
    log = copied(features)
    keep(log, opened(tmp_path, Limits(rows=ROWS, total_bytes=1)))
    keep(log, opened(tmp_path, Limits(rows=ROWS)))

    assert [file.next for file in capture_files(tmp_path)] == [N_MESSAGES + 2]


def test_a_topic_made_anew_is_refused(features: MemoryLog, tmp_path: Path) -> None:
    keep(copied(features), opened(tmp_path))

    with pytest.raises(CaptureError, match="made anew; capture into another folder"):
        keep(copied(features, [0]), opened(tmp_path))


def test_another_feature_set_is_refused(features: MemoryLog, tmp_path: Path) -> None:
    """In the folder and in the stream, naming both."""
    with pytest.raises(FeatureSetError, match=f"{CONN_SET.id}, expected {KDD99.id}"):
        Capture(tmp_path, TOPIC, KDD99, Limits(), now=Clock()).take(features.messages(TOPIC)[0])
    keep(copied(features), opened(tmp_path))
    with pytest.raises(FeatureSetError, match=f"{CONN_SET.id}, expected {KDD99.id}"):
        Capture(tmp_path, TOPIC, KDD99, Limits(), now=Clock())


def test_what_is_no_features_message_is_left_out_and_counted(features: MemoryLog, tmp_path: Path) -> None:
    log = copied(features)
    log.append(TOPIC, 0, b"x", [])
    log.append(
        TOPIC, 0, b"no arrow", [*features.messages(TOPIC)[13].headers[:-1], ("weir-flows-offset", b"99")]
    )

    assert keep(log, opened(tmp_path)).n_refused == 2
    assert captured_rows(tmp_path) == N_MESSAGES * ROWS


def test_a_foreign_parquet_file_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "mine.parquet")

    with pytest.raises(CaptureError, match=r"mine\.parquet is no file of weir capture"):
        capture_files(tmp_path)


def test_two_captures_do_not_share_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(BusyError, match="another capture writes"), locked(tmp_path):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CaptureError, match="cannot be written"), locked(tmp_path / "capture"):
        pass


def test_metadata_are_read_as_written(features: MemoryLog, tmp_path: Path) -> None:
    (file,) = keep(copied(features), opened(tmp_path)).files

    assert file == CaptureFile.read(file.path)


@pytest.fixture(autouse=True)
def _writable_again(tmp_path: Path) -> Iterator[None]:
    yield
    tmp_path.chmod(0o700)
