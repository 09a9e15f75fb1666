"""What an ingest counts, however its chunks are cut."""

from brokers import conn_source
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest import Ingested, IngestMetrics


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


class Partition:
    """One of several sources of a kind, as the partitions of a topic are."""

    def __init__(self, source_id: str) -> None:
        self.source_id, self.name, self.n_asked, self.n = source_id, "topic", 0, 0

    def counters(self) -> dict[str, int]:
        self.n_asked += 1
        return {"messages": self.n}


def test_counters_of_all_sources_of_a_kind_are_added_up_when_scraped() -> None:
    """No partition hides another, and none is asked for each chunk."""
    metrics, sources = IngestMetrics(), [Partition("a"), Partition("b")]
    for source in sources:
        metrics.begin(source)
    for chunk in conn_source(100, n_rejects=9).chunks():
        metrics.observe(chunk)
    assert [source.n_asked for source in sources] == [0, 0]
    sources[0].n, sources[1].n = 5, 7

    labels = {"source": "topic", "event": "messages"}
    assert metrics.registry.get_sample_value("weir_source_events_total", labels) == 12
    assert metrics.registry.get_sample_value("weir_records_consumed_total", {"stage": "ingest"}) == 100
