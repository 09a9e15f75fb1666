"""A second replay has ids of its own; a rebased one keeps them; both shift times."""

from datetime import timedelta

import pyarrow as pa
import pytest

from connectors.base import Source
from connectors.errors import SourceError
from connectors.records import CONN
from connectors.replay import again, rebased
from connectors.source_synthetic import SyntheticSource
from connectors.wire import decode

HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def source() -> Source:
    return SyntheticSource(seed=2, scale=0.002, attacks=False)


def table(source: Source) -> pa.Table:
    return pa.Table.from_batches([chunk.rows for chunk in source.chunks()], CONN.schema)


def same_but(first: pa.Table, second: pa.Table, *names: str) -> bool:
    return bool(first.drop_columns([*names]).equals(second.drop_columns([*names])))


def test_a_second_run_has_ids_of_its_own(source: Source) -> None:
    """Run 1 and run 2 share no id with each other or the first replay; each gives the same ids again."""
    tables = [table(source), table(again(source, 1)), table(again(source, 2)), table(again(source, 2))]
    ids = [set(t["flow_id"].to_pylist()) for t in tables]

    assert len(set.union(*ids[:3])) == 3 * source.n_records  # known for this source
    assert ids[2] == ids[3]
    assert len({source.source_id, again(source, 1).source_id, again(source, 2).source_id}) == 3
    assert same_but(tables[0], tables[1], "flow_id")


@pytest.mark.parametrize("shift_us", [HOUR_US, -HOUR_US, 1])
def test_a_rebased_source_differs_in_time_only(source: Source, shift_us: int) -> None:
    """Ids stay, so that an interrupted replay goes on; every time moves by the same amount."""
    moved = rebased(source, shift_us)
    first, second = table(source), table(moved)
    expected = [time + timedelta(microseconds=shift_us) for time in first["event_time"].to_pylist()]

    assert second["event_time"].to_pylist() == expected
    assert same_but(first, second, "event_time")
    assert (moved.source_id, moved.n_records) == (source.source_id, source.n_records)
    assert any("shifted" in note for note in moved.notes)


def test_times_shifted_out_of_range_are_rejects(source: Source) -> None:
    """Nothing is lost in silence: a row whose time no longer fits is given back as an Arrow stream."""
    chunk = next(rebased(source, 75 * 365 * 24 * HOUR_US).chunks(rows=50))
    covered = [reject.position for reject in chunk.rejects]

    assert covered == list(range(chunk.first, chunk.next))
    assert {reject.reason for reject in chunk.rejects} == {"absurd_time"}
    assert decode(chunk.rejects[-1].raw)["position"].to_pylist() == [chunk.next - 1]


@pytest.mark.parametrize("run", [0, -1])
def test_run_zero_is_the_first_replay(source: Source, run: int) -> None:
    """A second replay needs a number of its own."""
    with pytest.raises(SourceError, match=rf"run is {run}, expected 1 or more"):
        again(source, run)


def test_absurd_shifts_are_refused(source: Source) -> None:
    """A shift that leaves no time in range is a mistake, not a day of rejects."""
    with pytest.raises(SourceError, match="shift by less"):
        rebased(source, 10**18)


def test_a_replayed_source_is_a_source(source: Source) -> None:
    """It can be replayed again in its turn."""
    assert isinstance(again(source, 1), Source)
    assert table(again(again(source, 1), 2))["flow_id"][0].as_py().endswith("-r1-r2")
