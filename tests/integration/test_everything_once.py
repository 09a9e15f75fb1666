"""Every record of real datasets comes out once, as it would offline, however the stream is cut."""

from hashlib import sha256
from pathlib import Path

import pytest
from accounts import judged, published_flows
from cases import CASES, MakeStream, Offline

from connectors.sources import open_source
from pipeline.topic_plan import stages

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(240)]

OPEN = {"grouping": {"enabled": False}}
"""With alpha 1: every flow is an alert of its own."""


@pytest.fixture(scope="session")
def bodies() -> dict[str, dict[str, bytes]]:
    """Return the digest of each flow's alert by dataset, of the run that published it first."""
    return {dataset: {} for dataset in CASES}


def runs() -> list[object]:
    """Return which dataset goes through which broker, and how many records a message, and over how many hops.

    Each dataset goes whole through both; the bytes of the later run are compared with the earlier one's.
    """
    tansu, kafka = ("local_broker", pytest.mark.broker), ("apache_kafka", pytest.mark.kafka)
    plan = (
        (kafka, "unsw-conn", 1000, 1),
        (kafka, "unsw-nb15", 4000, 2),
        (tansu, "unsw-nb15", 250, 2),
        (kafka, "unsw-conn", 333, 2),
        (tansu, "unsw-conn", 4000, 2),
        (kafka, "nsl-kdd", 4000, 2),
        (tansu, "nsl-kdd", 1000, 2),
    )
    return [
        pytest.param(name, dataset, rows, hops, marks=mark, id=f"{name}-{dataset}-{rows}-{hops}hop")
        for (name, mark), dataset, rows, hops in plan
    ]


@pytest.mark.parametrize(("broker", "dataset", "rows", "hops"), runs(), indirect=["broker"])
def test_every_flow_comes_out_once(
    make_stream: MakeStream,
    offline: Offline,
    bodies: dict[str, dict[str, bytes]],
    data_dir: Path,
    dataset: str,
    rows: int,
    hops: int,
) -> None:
    """Every flow once by id; scores and p-values of `weir evaluate`, to the bit; bytes as in other runs."""
    expected = offline(dataset)
    case = CASES[dataset]
    stream = make_stream(dataset, writer={"rows": rows}, features={"inline": hops == 1}, **OPEN)
    stream.start(*stages(stream.settings))
    stream.send(open_source(dataset, data_dir, part=case.part))

    books = stream.settle(within_s=150)

    assert (case.n_records, case.n_records, 0) == stream.accounts.balance
    sent = [flow_id for ids in books.sent.values() for flow_id in ids]
    published = published_flows(books)
    assert case.n_records == len(set(sent)) == len(published)
    assert set(sent) == set(published)
    for flow_id, (scores, p_values, panel_p) in judged(books).items():
        assert expected[flow_id] == list(zip(scores, p_values, strict=True))
        assert panel_p == min(1.0, len(p_values) * min(p_values))
    digests = {flow_id: sha256(body).digest() for flow_id, body in published.items()}
    known = bodies[dataset]
    differing = [flow_id for flow_id in digests.keys() & known.keys() if digests[flow_id] != known[flow_id]]
    assert not differing
    known.update(digests)
