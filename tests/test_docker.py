"""The files in docker/ fit the code, as far as that shows without an engine."""

import re
import shlex
from typing import Any

import pytest
import yaml
from command_lines import ROOT, parse, words

from connectors.broker_kafka import VERSION
from pipeline.settings import load_settings

FOLDER = ROOT / "docker"
INSTRUCTIONS = {
    "FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD",
}  # fmt: skip


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as instructions and their arguments, continued lines joined."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def _ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: s for name, s in compose["services"].items() if s["image"].startswith("weir:")}


def test_every_service_runs_a_command_that_exists(compose: dict[str, Any]) -> None:
    """Commands and options of all our services are those of `weir`."""
    services = _ours(compose)
    assert {"topics", "features", "detect", "alerts", "replay", "train"} == set(services)
    for service in services.values():
        parse(service["command"])


def test_every_setting_given_exists(compose: dict[str, Any]) -> None:
    """The environment of each service is read without a complaint, and says what it should."""
    for service in _ours(compose).values():
        settings = load_settings(env={name: str(value) for name, value in service["environment"].items()})
        assert settings.kafka.bootstrap_servers == ("kafka:9092",)
        assert settings.panel.models == ("office",)


def test_workers_come_back_and_jobs_do_not(compose: dict[str, Any]) -> None:
    """Workers have a restart policy and wait for the topics; jobs end and have no health check."""
    for name, service in _ours(compose).items():
        if service["command"][0] == "worker":
            assert service["restart"] == "unless-stopped", name
            assert service["depends_on"]["topics"]["condition"] == "service_completed_successfully"
            assert "healthcheck" not in service, "that of the image asks /ready"
        else:
            assert service["restart"] == "no", name
            assert service["healthcheck"] == {"disable": True}


def test_the_model_that_is_trained_is_the_one_that_runs(compose: dict[str, Any]) -> None:
    """The profile `train` writes where the detect worker looks, under the name it looks for."""
    train = compose["services"]["train"]
    options = dict(zip(train["command"], train["command"][1:], strict=False))
    assert options["--name"] == train["environment"]["WEIR__PANEL__MODELS"]
    assert f"models:{options['--out']}" in compose["services"]["detect"]["volumes"]


def test_what_is_used_is_declared(compose: dict[str, Any]) -> None:
    """Volumes and dependencies of all services are in the file; Kafka is the version of the tests."""
    for service in compose["services"].values():
        named = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert named <= set(compose["volumes"])
        assert set(service.get("depends_on", {})) <= set(compose["services"])
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{VERSION}"


def test_the_image_runs_as_nobody_in_particular(instructions: list[tuple[str, str]]) -> None:
    """Not root in the last stage; without PyTorch; what is installed is held to the constraints."""
    assert {name for name, _ in instructions} <= INSTRUCTIONS
    last = max(index for index, (name, _) in enumerate(instructions) if name == "FROM")
    users = [value for name, value in instructions[last:] if name == "USER"]
    assert users[-1].isdigit()
    assert int(users[-1]) > 0
    installs = [value for name, value in instructions if name == "RUN" and "pip install" in value]
    assert all("--constraint constraints.txt" in value and "neural" not in value for value in installs)
    assert installs


def test_the_image_starts_weir_and_asks_whether_it_is_ready(instructions: list[tuple[str, str]]) -> None:
    """The entry point is our command; the health check is Python that compiles and asks the port set."""
    last = dict(instructions)
    assert last["ENTRYPOINT"] == '["weir"]'
    health = shlex.split(last["HEALTHCHECK"].partition("CMD")[2].strip(" []").replace(",", " "))
    assert health[:2] == ["python", "-c"]
    port = re.search(r"WEIR__WORKER__PORT=(\d+)", last["ENV"])
    assert port is not None
    assert f":{port[1]}/ready" in last["HEALTHCHECK"]


def test_everything_copied_is_there_and_let_in(instructions: list[tuple[str, str]]) -> None:
    """What the Dockerfile copies exists, and its ignore file lets it into the build."""
    let_in = {
        line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"
    }
    copied = [words(value)[:-1] for name, value in instructions if name == "COPY" and "--from" not in value]
    files = {file for one in copied for file in one}
    assert files == let_in
    assert all((ROOT / file).exists() for file in files)
