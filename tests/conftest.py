"""Fixtures that several suites share."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokers import certificate
from pydantic import SecretStr
from threadpoolctl import threadpool_limits

from connectors import broker_kafka, broker_local
from connectors.kafka_settings import KafkaSettings

# Two BLAS threads make the small products of the detectors five times slower. The variable is for
# the processes that tests start: a plugin of pytest may have loaded numpy already.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
threadpool_limits(1)

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let golden files be rewritten only when someone asks for it."""
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden from what the code gives"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, so that what it sets up is made once (pytest -n).

    The contract suite trains a detector for each variant: there, those of a variant.
    """
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        item.add_marker(pytest.mark.xdist_group(f"{item.path}{parameters.get('variant', '')}"))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return a check that a text is what its file in tests/golden says."""

    def check(name: str, text: str) -> None:
        path = ROOT / "tests" / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path.name} is missing; run pytest --update-golden once and read the file"
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the public datasets; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("WEIR_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"public datasets not found at {path}; set WEIR_DATA to their folder")
    return path


@pytest.fixture(scope="session")
def local_broker() -> Iterator[KafkaSettings]:
    """Run the local broker, one for the whole test run; take topics of your own (brokers.fresh_topics)."""
    with broker_local.local_broker() as settings:
        yield settings


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[KafkaSettings]:
    """Run Apache Kafka, one for the whole test run; skipped, visibly, where it cannot be had."""
    if missing := broker_kafka.missing_tools():
        pytest.skip(f"Apache Kafka needs {missing}, not installed here")
    with broker_kafka.kafka_broker() as settings:
        yield settings


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("local_broker", marks=pytest.mark.broker, id="tansu"),
        pytest.param("apache_kafka", marks=pytest.mark.kafka, id="kafka"),
    ],
)
def broker(request: pytest.FixtureRequest) -> KafkaSettings:
    """Both brokers in turn."""
    settings: KafkaSettings = request.getfixturevalue(request.param)
    return settings


@pytest.fixture(scope="session")
def guarded_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """Run a Kafka with a second listener, for user alice over TLS."""
    if missing := broker_kafka.missing_tools() or ("" if shutil.which("keytool") else "keytool"):
        pytest.skip(f"Apache Kafka with TLS needs {missing}, not installed here")
    folder = tmp_path_factory.mktemp("tls")
    pem = certificate(folder)
    port, guarded_port, controller = (broker_local.free_port() for _ in range(3))
    properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded_port},"
        f"CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded_port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain."
        'PlainLoginModule required user_alice="alice-secret";',
        "listener.name.guarded.ssl.keystore.location": str(folder / "broker.p12"),
        "listener.name.guarded.ssl.keystore.password": "store-secret",
    }
    with broker_kafka.kafka_broker(port, properties=properties):
        yield KafkaSettings(
            bootstrap_servers=(f"127.0.0.1:{guarded_port}",),
            security_protocol="SASL_SSL",
            tls_ca_file=pem,
            sasl_mechanism="PLAIN",
            sasl_user="alice",
            sasl_password=SecretStr("alice-secret"),
            connect_timeout_s=3,
        )
