"""The broker of a run: Apache Kafka behind a proxy, or the local one."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from faults import NEEDS_DURABLE_BROKER, NEEDS_PROXY
from proxy import HOST, Proxy

from connectors.broker_kafka import ApacheKafka
from connectors.broker_local import check_port, local_broker
from connectors.errors import BrokerError

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where the broker is, and what can be done to it."""

    direct: str  # address that no fault of the network touches
    public: str  # address that it tells its clients
    broker: ApacheKafka | None = None
    proxy: Proxy | None = None

    @property
    def impossible(self) -> frozenset[str]:
        """Kinds of faults that it cannot have."""
        return (frozenset() if self.broker else NEEDS_DURABLE_BROKER) | (
            frozenset() if self.proxy else NEEDS_PROXY
        )


def lasting_port() -> int:
    """Return a free port that no outgoing connection is given.

    Whoever calls a broker that is away may be given the very port that he calls: he then talks to
    himself, and the broker cannot come back.
    """
    first = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32_768
    while True:
        with suppress(BrokerError):
            return check_port(random.randrange(first // 2, first))


@contextmanager
def kafka_cluster(folder: Path) -> Iterator[Cluster]:
    """Run Apache Kafka with its data in a folder; all clients but ours go through a proxy."""
    port, direct, controller = (lasting_port() for _ in range(3))
    with Proxy(port) as proxy:
        public = f"{HOST}:{proxy.port}"
        properties = {
            "listeners": f"PLAINTEXT://{HOST}:{port},DIRECT://{HOST}:{direct},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{public},DIRECT://{HOST}:{direct}",
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "DIRECT",
        }
        folder.mkdir(parents=True, exist_ok=True)
        broker = ApacheKafka(folder, port, advertised_port=proxy.port, properties=properties)
        try:
            broker.start()
            yield Cluster(direct=f"{HOST}:{direct}", public=public, broker=broker, proxy=proxy)
        finally:
            broker.stop()


@contextmanager
def local_cluster() -> Iterator[Cluster]:
    """Run the local broker, which keeps nothing over a restart."""
    with local_broker() as kafka:
        yield Cluster(direct=kafka.servers, public=kafka.servers)
