"""The systemd units and the compose file start processes again as their exit codes ask."""

import configparser
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_lines import ROOT, parse

from pipeline import exit_codes, supervisor
from pipeline.agents import carrier
from pipeline.settings import load_settings

FOLDER = ROOT / "deploy" / "systemd"
WORKER, INGEST = FOLDER / "weir-worker@.service", FOLDER / "weir-ingest@.service"
OF_254 = ("RestartSteps", "RestartMaxDelaySec")
"""Keys that older versions of systemd name and ignore."""


class Unit(configparser.ConfigParser):
    """A unit file: its keys have capitals."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def read(path: Path) -> Unit:
    unit = Unit(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    unit.read_string(path.read_text(encoding="utf-8"))
    return unit


@pytest.fixture(scope="module", params=[WORKER, INGEST], ids=lambda path: path.name)
def unit(request: pytest.FixtureRequest) -> Unit:
    return read(request.param)


def variables(path: Path) -> dict[str, str]:
    """Return what an environment file sets."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    return {name: value.strip('"') for name, value in found.items()}


def seconds(text: str) -> float:
    assert text.isdigit(), f"{text}: write seconds without a unit, as all of this file"
    return float(text)


def test_the_code_base_has_one_set_of_codes() -> None:
    """What the agents end with is what the supervisors are told of."""
    assert (carrier.AGAIN, carrier.CONFIG) == (exit_codes.AGAIN, exit_codes.CONFIG)
    assert exit_codes.AGAIN == os.EX_TEMPFAIL
    assert exit_codes.CONFIG == os.EX_CONFIG
    assert supervisor.NO_RESTART is exit_codes.NO_RESTART


def test_the_unit_restarts_on_what_a_restart_mends(unit: Unit) -> None:
    """Only 0 and the codes that need a person end the service; 1, 75 and signals do not."""
    service = unit["Service"]
    prevented = {int(code) for code in service["RestartPreventExitStatus"].split()}

    assert service["Restart"] == "on-failure"
    assert prevented | {exit_codes.DONE} == exit_codes.NO_RESTART
    assert "SuccessExitStatus" not in service, "75 must stay a failure, or nothing starts it again"


def test_the_unit_never_gives_up_on_a_broker(unit: Unit) -> None:
    """No limit of starts; pauses that grow, but not so long that a worker sleeps on."""
    service = unit["Service"]

    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert 1 <= seconds(service["RestartSec"]) < seconds(service["RestartMaxDelaySec"]) <= 300
    assert int(service["RestartSteps"]) > 1


def test_the_unit_lets_work_in_hand_be_finished(unit: Unit) -> None:
    """SIGTERM to the worker alone, and more time than the children of `weir worker all` may take."""
    service = unit["Service"]

    assert service["KillMode"] == "mixed"
    assert signal.Signals[service["KillSignal"]] is signal.SIGTERM
    assert seconds(service["TimeoutStopSec"]) > supervisor.STOP_S


@pytest.mark.parametrize("stage", ["features", "detect", "alerts"])
def test_the_unit_starts_every_stage(stage: str) -> None:
    """The command line exists, and the variables of the stage are settings."""
    service = read(WORKER)["Service"]
    program, *args = shlex.split(service["ExecStart"].replace("%i", stage))

    parse(args)
    assert Path(program).name == "weir"
    env = variables(FOLDER / f"{stage}.env")
    assert load_settings(env=env).worker.port == 9464 + supervisor.STAGES.index(stage)
    assert service["EnvironmentFile"] == "-/etc/weir/%i.env"


def test_the_unit_reads_a_source() -> None:
    """The command line exists; systemd makes words of the variable, and nothing starts without it."""
    service, env = read(INGEST)["Service"], variables(FOLDER / "ingest-zeek.env")
    program, *args = shlex.split(service["ExecStart"].replace("$INGEST", env["INGEST"]))

    parse(args)
    assert Path(program).name == "weir"
    assert list(env) == ["INGEST"]
    assert service["EnvironmentFile"] == "/etc/weir/ingest-%i.env"
    ports = {9464 + number for number in range(len(supervisor.STAGES))}
    assert int(args[args.index("--port") + 1]) not in ports


def test_the_services_may_write_where_they_must_and_nowhere_else(unit: Unit) -> None:
    """State has a folder; the rest of the system is read-only."""
    service = unit["Service"]

    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert service["StateDirectory"] == "weir"
    assert service["WorkingDirectory"] == "%S/weir"


def test_workers_may_compile() -> None:
    """Compiled windows have a folder, and memory that is written may be run."""
    service = read(WORKER)["Service"]

    assert "NUMBA_CACHE_DIR=%C/" + service["CacheDirectory"] in service["Environment"].split()
    assert "MemoryDenyWriteExecute" not in service, "Numba compiles into memory that is then run"


def analyze(*args: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here (apt install systemd)")
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("path", [WORKER, INGEST], ids=lambda path: path.name)
def test_systemd_understands_the_unit(path: Path, tmp_path: Path) -> None:
    """Its own checker has nothing to say, but for keys that an older one does not know."""
    version = int(analyze("--version").stdout.split()[1])
    text = path.read_text(encoding="utf-8").replace("/opt/weir/bin/weir", sys.executable)
    copy = tmp_path / path.name.replace("@", "@detect")
    copy.write_text(text, encoding="utf-8")

    said = analyze("verify", str(copy)).stderr.splitlines()

    ours = [line for line in said if path.name.split("@")[0] in line]
    assert [line for line in ours if version >= 254 or not any(key in line for key in OF_254)] == []


@pytest.mark.parametrize("path", [WORKER, INGEST], ids=lambda path: path.name)
def test_the_unit_is_hardened(path: Path) -> None:
    """systemd's own judgement of what the service could do is at most 2 of 10."""
    done = analyze("security", "--offline=true", "--threshold=20", str(path))

    assert done.returncode == 0, done.stdout[-300:]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    read = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    return {name: s for name, s in read["services"].items() if (s.get("command") or [""])[0] == "worker"}


def test_compose_starts_workers_again_also_after_a_reboot(services: dict[str, Any]) -> None:
    """Docker cannot except a code; of its policies only this one survives a restart of the machine."""
    assert {"features", "detect", "alerts"} == set(services)
    for name, service in services.items():
        assert service["restart"] == "unless-stopped", name
        assert float(service["stop_grace_period"].removesuffix("s")) > supervisor.STOP_S, name
        assert service["init"] is True, "so that SIGTERM reaches a worker that is no init"
