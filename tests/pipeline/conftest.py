"""Flagged rows and detections headers as the judge writes them."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pyarrow as pa
import pytest

from pipeline.messages import DetectionsHeaders
from pipeline.verdict import FLAGGED, FeatureShare, Loading, Reasons, TermShare

START_US = 1_700_000_040_000_000
"""The beginning of a 60 s bucket."""

PANEL = {
    "name": "main",
    "alpha": 1e-4,
    "fusion": "min",
    "feature_set": "conn:0123456789abcdef",
    "models": [
        {"name": "conn-beaa", "version": "3", "sha256": "ab" * 32, "detector": "beaa"},
        {"name": "conn-bn", "version": "1", "sha256": "cd" * 32, "detector": "bn"},
    ],
}


def _address(text: str | None) -> bytes | None:
    if text is None:
        return None
    parsed = ip_address(text)
    return parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed


REASONS = Reasons(
    score_kind="whitened_sum",
    additive=True,
    terms=(
        TermShare(
            kind="noise_direction",
            id="n3",
            deviation=31.4159265,
            term=986.96,
            share=0.91234567,
            features=(
                FeatureShare(
                    name="src_failed_60s", observed=412.0, expected=1.04, unit="flows", contribution=24.5
                ),
                FeatureShare(
                    name="src_failed_share_60s", observed=0.98, expected=0.021, unit="ratio", contribution=6.9
                ),
            ),
            loadings=(
                Loading(name="src_failed_60s", value=0.81),
                Loading(name="src_dsts_60s", value=0.42),
                Loading(name="service=http", value=-0.3),
            ),
        ),
        TermShare(
            kind="residual",
            id="src_bytes_60s",
            deviation=-3.2,
            term=10.24,
            share=0.01,
            features=(
                FeatureShare(
                    name="src_bytes_60s",
                    observed=1234567.0,
                    expected=4_812_345.0,
                    unit="bytes",
                    contribution=-3.2,
                ),
            ),
        ),
    ),
)


@pytest.fixture(scope="session")
def flagged() -> Callable[..., pa.RecordBatch]:
    """Return a maker of FLAGGED batches: one dict of differences from a plain row for each row.

    Addresses are text; `at` is seconds after START_US, of the event and of the lane clock alike.
    """

    def make(*rows: dict[str, Any]) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([_row(dict(row)) for row in rows], schema=FLAGGED)

    return make


def _row(changes: dict[str, Any]) -> dict[str, Any]:
    us = START_US + round(changes.pop("at", 0) * 1e6)
    row = {
        "sensor": "hq",
        "flow_id": "C1",
        "event_time": us,
        "src_ip": "10.0.0.5",
        "dst_ip": "10.0.0.9",
        "src_port": 50123,
        "dst_port": 22,
        "protocol": "tcp",
        "clock_us": us,
        "p_value": 2e-6,
        "scores": [1234.5678, 2.5],
        "p_values": [1e-6, 0.25],
        "decided": 0,
        "leading": "noise_direction:n3",
        "about": "src",
        "reasons": REASONS.to_json(),
    } | changes
    return row | {"src_ip": _address(row["src_ip"]), "dst_ip": _address(row["dst_ip"])}


@pytest.fixture(scope="session")
def panel() -> dict[str, Any]:
    """Return a panel card of two models."""
    return PANEL


@pytest.fixture(scope="session")
def headers() -> Callable[..., DetectionsHeaders]:
    """Return a maker of headers; `until` is the lane clock afterwards, seconds after START_US."""

    def make(until: float = 0, **changes: Any) -> DetectionsHeaders:
        plain = {
            "panel": PANEL,
            "rows": 0,
            "flagged": 0,
            "input_offset": 0,
            "flows_offset": 0,
            "clock_us": START_US,
            "clock_end_us": START_US + round(until * 1e6),
        }
        return DetectionsHeaders(**(plain | changes))

    return make
