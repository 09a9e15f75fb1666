"""What an ingest counts, however its chunks are cut."""

from brokers import conn_source
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest import Ingested


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 40)), max_size=5))
def test_what_is_read_again_is_not_counted_again(restarts: list[tuple[int, int]]) -> None:
    """After an outage a part is read once more, in other chunks; the counts are those of one reading."""
    source, ingested = conn_source(100, n_rejects=9), Ingested()
    reached = 0
    for back, rows in restarts:
        start = min(reached, back)
        for chunk in source.chunks(start, rows=rows):
            ingested.add(source, chunk)
            reached = max(reached, chunk.next)
            if chunk.next >= start + 30:
                break
    for chunk in source.chunks(reached, rows=7):
        ingested.add(source, chunk)

    assert ingested.n_flows == 91
    assert ingested.rejects == {"bad_line": 9}
