"""A log that grows and is rotated: every line once, in order, whatever becomes of its files."""

import gzip
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from structlog.testing import capture_logs

from connectors import follow, lines
from connectors.base import Source
from connectors.errors import SourceError
from connectors.kafka_settings import KafkaSettings
from connectors.live import Live, open_live

HEADER = (
    "#separator \\x09\n#path\tconn\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto"
    "\tconn_state\torig_pkts\n#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\tcount\n"
)
QUIET_S = 0.015


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "IDLE_S", 0.001)
    monkeypatch.setattr(lines, "QUIET_S", QUIET_S)
    monkeypatch.setattr(follow, "LOOK_S", 0.001)


def record(number: int) -> str:
    return json.dumps(
        {
            "ts": 1_700_000_000 + number, "uid": f"C{number}", "id.orig_h": "10.0.0.1", "id.orig_p": 4000,
            "id.resp_h": "10.0.0.2", "id.resp_p": 80, "proto": "tcp", "conn_state": "SF", "orig_pkts": 3,
        }
    ) + "\n"  # fmt: skip


def row(number: int) -> str:
    return f"{1_700_000_000 + number}.5\tC{number}\t10.0.0.1\t4000\t10.0.0.2\t80\ttcp\tSF\t3\n"


class Log:
    """A log and its writer."""

    def __init__(self, folder: Path, *, line: Callable[[int], str] = record, header: str = "") -> None:
        self.path = folder / "conn.log"
        self._line = line
        self._header = header
        self._begin()
        self.n = 0  # lines written
        self.n_rotations = 0

    def _begin(self) -> None:
        self._file = self.path.open("a")
        self._file.write(self._header)
        self._file.flush()

    def write(self, n: int = 1) -> None:
        for _ in range(n):
            self._file.write(self._line(self.n))
            self.n += 1
        self._file.flush()

    def rotated(self, name: str = "") -> Path:
        self.n_rotations += 1
        return self.path.with_name(name or f"conn.{self.n_rotations:03}.log")

    def rename(self, *, begin: bool = True) -> Path:
        """Rename the log, and begin a new one."""
        moved = self.path.rename(self.rotated())
        if begin:
            self._file.close()
            self._begin()
        return moved

    def copy_and_cut(self, *, copy: bool = True) -> None:
        if copy:
            shutil.copy(self.path, self.rotated())
        os.truncate(self.path, 0)
        self._file.write(self._header)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def packed(path: Path) -> Path:
    """Gzip a file as gzip does: under a new name, with the old time."""
    target = path.with_name(f"{path.name}.gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    shutil.copystat(path, target)
    path.unlink()
    return target


class Reader:
    """A process that follows a log, which remembers over restarts only what a flows topic would."""

    def __init__(self, path: Path, **options: str) -> None:
        self._live = Live(address=str(path), **options)
        self._marks: dict[str, int] = {}
        self._steps: Generator[bool, None, None] | None = None
        self.seen: list[int] = []
        self.rejects: list[str] = []
        self.restart()

    def restart(self) -> None:
        (stream,) = open_live(self._live, KafkaSettings())
        self.close()
        self._steps = self._read(stream(self._marks.copy().__contains__))

    def close(self) -> None:
        if self._steps is not None:
            self._steps.close()

    def _read(self, sources: Generator[Source | None, None, None]) -> Generator[bool, None, None]:
        with closing(sources):
            for source in sources:
                if source is None:
                    yield False
                else:
                    yield from self._chunks(source)

    def _chunks(self, source: Source) -> Iterator[bool]:
        with closing(source.chunks(self._marks.get(source.source_id, 0), rows=3)) as chunks:
            for chunk in chunks:
                self._marks[source.source_id] = chunk.next
                self.seen += [int(uid[1:]) for uid in chunk.rows["flow_id"].to_pylist()]
                self.rejects += [reject.detail for reject in chunk.rejects]
                yield bool(chunk.next > chunk.first)

    def step(self) -> bool:
        return next(self._steps)

    def read_to(self, n: int, within_s: float = 5.0) -> None:
        """Read until so many flows were seen."""
        until = time.monotonic() + within_s
        while len(self.seen) < n and time.monotonic() < until:
            self.step()
        assert self.seen == list(range(n))

    def idle(self, seconds: float = 2 * QUIET_S) -> None:
        """Read on for a while, in which nothing may come."""
        n, until = len(self.seen), time.monotonic() + seconds
        while time.monotonic() < until:
            self.step()
        assert len(self.seen) == n


@pytest.fixture(params=["json", "tsv"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path) if request.param == "json" else Log(tmp_path, line=row, header=HEADER)
    yield log
    log.close()


def test_a_growing_log_is_read_as_it_grows(log: Log) -> None:
    """Each line comes once it is there to its end; half a line is waited for."""
    log.write(3)
    reader = Reader(log.path)
    reader.read_to(3)
    whole = log._line(3)
    log._file.write(whole[:20])
    log._file.flush()
    reader.idle()
    log._file.write(whole[20:])
    log.n += 1
    log.write(4)
    reader.read_to(8)

    assert reader.rejects == []


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """A reader may start before the log, before its header is complete and before its first record."""
    reader = Reader(tmp_path / "conn.log")
    reader.idle()
    log = Log(tmp_path, line=row, header="")
    reader.idle()
    for part in (HEADER[:7], HEADER[7:60], HEADER[60:], row(0)[:25]):
        log._file.write(part)
        log._file.flush()
        reader.idle()
    log._file.write(row(0)[25:])
    log.n = 1
    log.write(2)
    reader.read_to(3)
    log.close()


def test_a_renamed_log_is_read_to_its_end_before_the_new_one(log: Log) -> None:
    """What the writer still puts into the renamed file is read, and then its successor."""
    log.write(2)
    reader = Reader(log.path)
    reader.read_to(2)
    log.rename(begin=False)
    log.write(2)  # it has not noticed yet
    reader.read_to(4)
    old = log._file
    log._begin()
    reader.step()
    old.write(log._line(log.n))
    old.close()
    log.n += 1
    reader.read_to(5)
    log.write(2)
    reader.read_to(7)


def test_a_log_may_be_gone_for_a_while(log: Log) -> None:
    """Between a rename and the next file nothing is there; the reader waits."""
    log.write(2)
    reader = Reader(log.path)
    reader.read_to(2)
    log.rename(begin=False)
    reader.idle()
    log.write(1)
    reader.read_to(3)
    log.close()
    log._begin()
    log.write(2)
    reader.read_to(5)


def test_a_log_that_is_removed_and_made_anew_is_read_on(log: Log) -> None:
    """What was written before the removal is read from the open file."""
    log.write(2)
    reader = Reader(log.path)
    reader.read_to(2)
    log.write(2)
    log.path.unlink()
    log.close()
    log._begin()
    log.write(2)
    reader.read_to(6)


def test_a_log_that_is_copied_and_cut_is_read_on(log: Log) -> None:
    """Lines that were not read when it was cut are read from the copy, half a line included."""
    log.write(3)
    reader = Reader(log.path)
    reader.read_to(3)
    whole = log._line(3)
    log._file.write(whole[:30])
    log._file.flush()
    reader.idle()
    log._file.write(whole[30:])
    log.n += 1
    log.write(2)
    log.copy_and_cut()
    log.write(2)
    reader.read_to(8)

    assert reader.rejects == []


def test_a_log_that_is_cut_without_a_copy_is_told(log: Log) -> None:
    """Lines that are gone cannot be read; the log says so, and reading goes on."""
    log.write(3)
    reader = Reader(log.path)
    reader.read_to(3)
    with capture_logs() as told:
        log.copy_and_cut(copy=False)
        log.write(2)
        reader.read_to(5)

    assert [entry["event"] for entry in told] == ["log_cut"]


def test_a_log_that_is_cut_twice_between_two_looks_is_read_on(log: Log) -> None:
    """A reader that was busy elsewhere finds both copies."""
    log.write(1)
    reader = Reader(log.path)
    reader.read_to(1)
    log.write(4)
    reader.read_to(5)
    for n in (2, 1):
        log.write(n)
        log.copy_and_cut()
        time.sleep(0.02)
    log.write(1)
    reader.read_to(9)


def test_a_log_that_was_cut_and_has_outgrown_itself_is_noticed(log: Log) -> None:
    """That it is longer than before does not hide that it holds something else."""
    log.write(3)
    reader = Reader(log.path)
    reader.read_to(3)
    log.copy_and_cut()
    log.write(9)
    reader.read_to(12)


@pytest.mark.parametrize("packing", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("away", [False, True], ids=["running", "restarted"])
def test_rotations_while_the_reader_was_away_lose_nothing(log: Log, *, packing: bool, away: bool) -> None:
    """Several files are read in the order in which they were written, packed or not."""
    log.write(2)
    reader = Reader(log.path)
    reader.read_to(2)
    moved = []
    for _ in range(3):
        log.write(2)
        moved.append(log.rename())
        time.sleep(0.02)  # file times are as coarse as the kernel's clock
    log.write(1)
    if packing:
        [packed(path) for path in moved]
    if away:
        reader.restart()
    reader.read_to(9)


def test_a_restart_reads_on_in_every_state(log: Log) -> None:
    """A reader that is restarted after each step goes on behind what it has read."""
    reader = Reader(log.path)
    n = 0
    for change in (log.rename, log.copy_and_cut, lambda: packed(log.rename()), lambda: None):
        log.write(2)
        n += 2
        reader.restart()
        reader.read_to(n)
        log.write(1)
        change()
        reader.restart()
        reader.read_to(n + 1)
        n += 1
        time.sleep(0.02)


def test_the_first_start_reads_nothing_that_was_rotated_before(log: Log) -> None:
    """Older files are for `weir replay`."""
    log.write(5)
    log.rename()
    log.n = 0
    log.write(2)
    reader = Reader(log.path)
    reader.read_to(2)
    reader.idle()
    log.rename()
    log.write(1)
    reader.read_to(3)


def test_an_unrelated_log_beside_it_is_left_alone(log: Log) -> None:
    """A file whose name looks like a rotated one is read only if it is one."""
    (log.path.parent / "conn-summary.log").write_text("#fields\tts\tnote\n1\thello\n")
    (log.path.parent / "conn.notes").mkdir()
    log.write(2)
    reader = Reader(log.path)
    reader.read_to(2)
    log.rename()
    (log.path.parent / "conn-summary.log").write_text("no log at all\n")
    (log.path.parent / "conn.bin").write_bytes(bytes(range(256)))
    log.write(2)
    reader.read_to(4)


def test_a_pattern_finds_rotated_files_elsewhere(log: Log) -> None:
    """As Zeek's archive, with a folder for each day."""
    log.write(2)
    reader = Reader(log.path, rotated=str(log.path.parent / "*" / "conn.*.log.gz"))
    reader.read_to(2)
    log.write(2)
    day = log.path.parent / "2024-05-06"
    day.mkdir()
    packed(log.rename().rename(day / "conn.07:00:00-08:00:00.log"))
    log.write(1)
    reader.restart()
    reader.read_to(5)


def test_a_file_that_is_being_packed_is_waited_for(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a gzip file is no end of a log."""
    log.write(2)
    reader = Reader(log.path)
    reader.read_to(2)
    reader.close()
    log.write(40)
    moved = log.rename()
    log.write(1)
    whole = gzip.compress(moved.read_bytes())
    moved.unlink()
    target = moved.with_name(f"{moved.name}.gz")
    target.write_bytes(whole[:-20])
    reader.restart()
    monkeypatch.setattr(lines, "QUIET_S", 0.5)
    assert not any(reader.step() for _ in range(5))
    target.write_bytes(whole)
    reader.read_to(43)


def test_another_kind_of_file_in_its_place_is_an_error(log: Log) -> None:
    """A log that is none is said to be none, with its name."""
    log.write(2)
    reader = Reader(log.path)
    reader.read_to(2)
    log.rename(begin=False)
    log.path.write_text("StartTime,Dur\n1,2\n")

    with pytest.raises(SourceError, match=r"conn\.log: of no known kind .*expected one of"):
        reader.idle(1.0)


def test_a_first_line_without_an_end_is_no_hang(tmp_path: Path) -> None:
    """A megabyte without an end of line will never be a record; this is said at once."""
    (tmp_path / "conn.log").write_bytes(b"{" + b"x" * 1_000_000)

    with pytest.raises(SourceError, match="of no known kind"):
        Reader(tmp_path / "conn.log").step()


def n_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_open_files_are_closed(log: Log) -> None:
    """However many files the log has, few are open at a time."""
    log.write(2)
    reader = Reader(log.path)
    reader.read_to(2)
    n_open = n_open_files()
    for n in range(10):
        log.rename()
        log.write(1)
        reader.read_to(3 + n)

    assert n_open_files() <= n_open


def test_times_cut_to_seconds_do_not_hide_a_file(log: Log) -> None:
    """What packs a log may date it to the whole second before its last change."""
    log.write(2)
    reader = Reader(log.path)
    reader.read_to(2)
    first = log.rename()
    log.write(3)
    second = log.rename()
    os.utime(second, (int(first.stat().st_mtime),) * 2)
    log.write(1)
    reader.read_to(6)


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens to a log, every line comes once and in order."""

    @initialize(tsv=st.booleans())
    def begin(self, *, tsv: bool) -> None:
        self.patch = pytest.MonkeyPatch()
        impatient(self.patch)
        self.folder = Path(tempfile.mkdtemp(prefix="weir-follow-"))
        self.log = Log(self.folder, line=row, header=HEADER) if tsv else Log(self.folder)
        self.log.write(1)
        self.reader = Reader(self.log.path)
        self.reader.read_to(1)
        self.rotated: list[Path] = []

    @rule(n=st.integers(1, 5))
    def append(self, n: int) -> None:
        self.log.write(n)

    @rule(n=st.integers(1, 4))
    def read(self, n: int) -> None:
        list(islice(self.reader._steps, n))

    @rule()
    def rename(self) -> None:
        self.rotated.append(self.log.rename())
        self.log.write(1)
        time.sleep(0.006)

    @rule()
    def copy_and_cut(self) -> None:
        self.log.copy_and_cut()
        self.log.write(1)
        time.sleep(0.006)

    @rule()
    def pack(self) -> None:
        if self.rotated:
            packed(self.rotated.pop())

    @rule()
    def restart(self) -> None:
        self.reader.restart()

    def teardown(self) -> None:
        try:
            if hasattr(self, "log"):
                self.reader.read_to(self.log.n)
                assert self.reader.rejects == []
        finally:
            self.log.close()
            shutil.rmtree(self.folder)
            self.patch.undo()


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
