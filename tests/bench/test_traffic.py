"""The flows of the benchmarks are valid, distinct and in order, however often they are repeated."""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from floors import Meter, matrix
from measure import Watched
from rig import Running
from traffic import Repeated

from connectors.wire import encode


@pytest.fixture(scope="module")
def source() -> Repeated:
    return Repeated("synthetic", 1_150_000)


def test_repeated_flows_are_distinct_and_in_order(source: Repeated) -> None:
    """No id comes twice, positions have no gap, and time never goes back, over the seams too."""
    rows = pa.Table.from_batches([chunk.rows for chunk in source.chunks(rows=100_000)])
    times = rows.column("event_time").cast(pa.int64()).to_numpy()
    assert rows.num_rows == source.n_records
    assert len(rows.column("flow_id").unique()) == rows.num_rows
    np.testing.assert_array_equal(rows.column("position").to_numpy(), np.arange(rows.num_rows))
    assert (np.diff(times) >= 0).all()


def test_every_repeated_flow_is_valid(source: Repeated) -> None:
    """The record type finds no bad row in any lap."""
    for start in (0, 548_000, 1_148_000):
        chunk = next(source.chunks(start))
        assert chunk.first == start
        assert not source.record_type.check(chunk.rows).bad


def test_reading_may_begin_anywhere(source: Repeated) -> None:
    """Two readings that meet give what one gives."""
    whole = next(source.chunks(700_000, rows=2000)).rows
    parts = [next(source.chunks(700_000, rows=700)).rows, next(source.chunks(700_700, rows=1300)).rows]
    assert pa.Table.from_batches([whole]).equals(pa.Table.from_batches(parts).combine_chunks())


def test_chunks_follow_one_another(source: Repeated) -> None:
    """Each begins where the one before has ended."""
    chunks = list(source.chunks(500_000, rows=10_000))
    assert all(before.next == after.first for before, after in pairwise(chunks))
    assert chunks[-1].next == source.n_records


def test_a_floor_makes_matrices() -> None:
    """Columns in the order asked for, null as NaN."""
    batch = pa.record_batch({"a": pa.array([1, None], pa.int64()), "b": pa.array([0.5, 2.0])})
    np.testing.assert_array_equal(matrix(encode(batch), ["b", "a"]), [[0.5, 1.0], [2.0, np.nan]])


def test_a_floor_measures_what_follows_the_skipped_messages() -> None:
    """Its process ends with the rows and seconds of the others."""
    code = (
        "import floors, pyarrow as pa, connectors.wire as w;"
        "v = w.encode(pa.record_batch({'a': [1.0, 2.0, 3.0]})); m = floors.Meter(['a'], 2, 5);"
        "[m.take(v) for _ in range(9)]; print('never')"
    )
    path = [sys.path[0], *sys.path]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout)
    assert found["rows"] == 9
    assert 0 <= found["cpu_s"] < 10


def test_a_meter_before_its_end_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed while messages are awaited."""
    Meter(["a"], 1, 9).take(encode(pa.record_batch({"a": [1.0]})))
    assert capfd.readouterr().out == ""


def test_a_span_begins_behind_the_skipped_and_ends_with_the_last() -> None:
    """What the first look beyond `skip` finds is noted, and messages that answer nothing do not count."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        watched = Watched(running=Running(process, 1), topic="t", base=1)
        looks = [watched.look(count, 5, 20) for count in (0, 5, 8, 15, 20, 21, 30)]
        process.kill()
    assert looks == [False, False, False, False, False, True, True]
    assert (watched.began, watched.ended) == (7, 20)
