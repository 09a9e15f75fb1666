"""What is cut from bursts: how many flows of an address in a minute stay."""

from collections import Counter

import numpy as np
import pytest
from captured_days import captured_file, day
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.history import source_numbers
from training.bursts import MINUTE_US, MINUTES, USUAL, Ends, usual_of_each, without_bursts
from training.captured import Captured, load_captured

small = st.integers(0, 4)


@given(
    ends=hnp.arrays(np.int64, 60, elements=small),
    minutes=hnp.arrays(np.int64, 60, elements=small),
    longest=hnp.arrays(np.int64, 5, elements=small),
    rows=st.sets(st.integers(0, 59)).map(sorted),
)
def test_the_first_flows_of_each_end_in_each_minute_stay(
    ends: np.ndarray, minutes: np.ndarray, longest: np.ndarray, rows: list[int]
) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    expected = []
    for row in rows:
        seen[ends[row], minutes[row]] += 1
        if seen[ends[row], minutes[row]] <= longest[ends[row]]:
            expected.append(row)
    found = Ends.of(ends, minutes * MINUTE_US + 7).shortened(np.array(rows, dtype=np.int64), longest)

    assert found.tolist() == expected


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Captured, np.ndarray]:
    """Return a captured day with a flood of made-up sources, and which rows are of it."""
    folder = tmp_path_factory.mktemp("flooded")
    features, labels = day(0, attacks=("syn_flood",))
    captured_file(folder, features)
    return load_captured(folder, "conn"), np.array(labels) != "normal"


def test_a_flood_of_made_up_sources_is_cut_and_busy_servers_are_not(
    flooded: tuple[Captured, np.ndarray],
) -> None:
    """Each of its sources sends once; what the victim usually gets is left of it."""
    data, flood = flooded
    rows = np.arange(data.features.num_rows, dtype=np.int64)
    (kept,), usual = without_bursts(data, [rows])

    assert flood.sum() > 300
    assert flood[kept].sum() < 0.1 * flood.sum()
    sources = Ends.of(source_numbers(data.features), data.times)
    by_sources = sources.shortened(rows, np.full(sources.of_row.max() + 1, usual.sent))
    assert (~flood[kept]).sum() > 0.9 * (~flood[by_sources]).sum()
    addresses = np.array(data.features.column("dst_ip").to_pylist(), dtype=object)
    minutes = data.times // MINUTE_US
    per_minute = Counter(zip(addresses[kept], minutes[kept], strict=True))
    busiest = max(per_minute.values())
    assert busiest > usual.received
    for address in {address for address, _ in per_minute}:
        counts = [n for (to, _), n in per_minute.items() if to == address]
        if len(counts) < MINUTES:
            assert max(counts) <= usual.received


def test_what_is_usual_is_learned_from_the_first_part_alone(flooded: tuple[Captured, np.ndarray]) -> None:
    """A flood in the calibration part changes nothing of what is kept of the fit part, nor what is usual."""
    data, flood = flooded
    first = int(np.flatnonzero(flood)[0])
    before, after = np.arange(first), np.arange(first, data.features.num_rows)
    (alone,), usual = without_bursts(data, [before])
    (kept, rest), same = without_bursts(data, [before, after])

    assert usual == same
    np.testing.assert_array_equal(alone, kept)
    assert flood[rest].sum() < 0.1 * flood.sum()


def test_in_a_short_capture_a_steady_server_is_no_victim() -> None:
    """Five minutes tell enough of who is asked in each; a burst of one minute is still none of them."""
    minutes = np.repeat(np.arange(5), 60)
    server, others = np.zeros(300, dtype=np.int64), np.arange(1, 301)
    flood = np.full(300, 301)
    ends = Ends.of(
        np.concatenate([server, others, flood]),
        np.concatenate([minutes, minutes, np.full(300, 2)]) * MINUTE_US,
    )
    received, usual = usual_of_each(ends, np.arange(900))

    assert received == 1
    assert usual[0] == 60
    assert usual[301] == 1


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.05, 1.0))
def test_most_minutes_of_sources_are_kept_whole(share: float, flooded: tuple[Captured, np.ndarray]) -> None:
    data, _ = flooded
    rows = np.arange(int(share * data.features.num_rows), dtype=np.int64)
    _, usual = without_bursts(data, [rows])
    sources = data.features.column("src_ip").to_pylist()
    counts = Counter((sources[row], data.times[row] // MINUTE_US) for row in rows)

    assert np.mean([n <= usual.sent for n in counts.values()]) >= USUAL
