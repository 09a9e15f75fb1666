"""About thirty faults on real streams: nothing is lost, and no alert has a second id or body."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, kafka_cluster, local_cluster
from datasets import TRAFFIC
from installation import HAS_INLINE
from reference import References
from rounds import Plan, Result, Round

from connectors.broker_kafka import missing_tools

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

RunRound = Callable[..., Result]
PACE_S = 1.9


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if missing := missing_tools():
        pytest.skip(f"Apache Kafka needs {missing}, not installed here")
    with kafka_cluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    TRAFFIC["few"].train(folder)
    return folder


@pytest.fixture(scope="module")
def run_round(models: Path, tmp_path_factory: pytest.TempPathFactory) -> RunRound:
    """Return what runs a round; both modes are compared with one undisturbed run."""
    references = References(tmp_path_factory.mktemp("references"))

    def run(cluster: Cluster, number: int, n_faults: int, *, inline: bool = False) -> Result:
        plan = Plan(
            number=number,
            seed=1,
            kind="plain",
            inline=inline,
            grouping=True,
            traffic="few",
            n_faults=n_faults,
            span_s=n_faults * PACE_S,
        )
        return Round(plan, cluster, tmp_path_factory.mktemp("round"), models, references).run()

    return run


def check(result: Result, n_faults: int) -> None:
    assert result.problems == []
    assert sum(result.faults.values()) == n_faults
    assert result.flows == sum(TRAFFIC["few"].records for _ in TRAFFIC["few"].sensors)
    assert result.alerts > 100


@pytest.mark.kafka
@pytest.mark.parametrize("mode", ["two-hop", "inline"])
def test_faults_on_kafka_lose_and_change_nothing(kafka: Cluster, run_round: RunRound, mode: str) -> None:
    """Processes, network, disk and broker, a dozen faults of them."""
    inline = mode == "inline"
    if inline and not HAS_INLINE:
        pytest.skip("this build has no features.inline")
    check(run_round(kafka, 3 + inline, 12, inline=inline), 12)


@pytest.mark.broker
def test_faults_on_the_local_broker_lose_and_change_nothing(run_round: RunRound) -> None:
    """Those that happen to processes; this broker keeps nothing over a restart."""
    with local_cluster() as cluster:
        check(run_round(cluster, 2, 6), 6)
