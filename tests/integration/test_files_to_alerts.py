"""A capture and a Zeek log, sent by the commands that a person calls, become explained alerts."""

import json
import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cases import MakeStream
from stream import ROOT, STAGES, Stream

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(180)]

FILES = {
    "pcaps/attack_ftp_bruteforce.pcap": ("pcap", 30),
    "flows/zeek_conn_json_portscan.log": ("zeek", 50),
}
"""File -> its kind, and how many flows it holds, by tshark and by `wc -l`."""

BROKERS = [
    pytest.param("local_broker", marks=pytest.mark.broker),
    pytest.param("apache_kafka", marks=pytest.mark.kafka),
]


def weir(stream: Stream, *command: str) -> str:
    """Run a command of weir on a stream and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *command, "-c", str(stream.config)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def explained(alert: dict[str, Any]) -> None:
    """Check that an alert says who, how odd, and why."""
    assert alert["event"]["kind"] == "alert"
    assert str(ip_address(alert["source"]["ip"])) in alert["event"]["reason"]
    assert 0 < alert["weir"]["p_value"] <= 1
    terms = alert["weir"]["noise_directions"] + alert["weir"]["residuals"]
    assert terms
    assert any(term["features"] for term in terms)
    assert alert["network"]["community_id"].startswith("1:")


@pytest.mark.parametrize("broker", BROKERS, indirect=True)
@pytest.mark.parametrize("name", FILES)
def test_a_file_becomes_explained_alerts(make_stream: MakeStream, data_dir: Path, name: str) -> None:
    """`weir replay FILE` sends every flow; each alert explains itself; a second replay sends nothing."""
    kind, n_flows = FILES[name]
    stream = make_stream("unsw-conn", grouping={"enabled": False})
    stream.start(*STAGES)
    summary = json.loads(weir(stream, "replay", str(data_dir / name), "--sensor", "lab", "--json"))
    books = stream.settle()
    told = [
        json.loads(line)
        for line in weir(
            stream, "alerts", "--json", "--idle-timeout", "3", "--from", "beginning"
        ).splitlines()
    ]
    again = json.loads(weir(stream, "replay", str(data_dir / name), "--sensor", "lab", "--json"))

    assert (kind, n_flows, 0) == (summary["source"], summary["n_sent"], summary["n_rejected"])
    assert stream.accounts.balance == (n_flows, n_flows, 0)
    assert n_flows == len(books.alerts) == len(told)
    assert {alert["event"]["id"] for alert in told} == set(books.alerts)
    for alert in told:
        explained(alert)
    assert again["n_sent"] == 0
