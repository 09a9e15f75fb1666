"""`weir detectors`: every detector says what it is and what it needs."""

import json
from typing import Any

from detectors.registry import names


def test_all_detectors_are_listed_with_mode_and_summary(weir: Any) -> None:
    found = [json.loads(line) for line in weir("detectors", "list", "--json").out.splitlines()]

    assert [each["name"] for each in found] == names()
    assert {each["mode"] for each in found} <= {"live", "offline"}
    assert all(each["summary"].endswith(".") for each in found)


def test_a_person_sees_a_table(weir: Any) -> None:
    shown = weir("detectors", "list")

    assert shown.code == 0
    assert "robust_z" in shown.out


def test_every_parameter_of_every_detector_is_explained(weir: Any) -> None:
    """Its default is shown, and its name stands in the meaning."""
    for name in names():
        found = json.loads(weir("detectors", "show", name, "--json").out)
        for parameter in found["defaults"]:
            assert parameter in found["parameters"], f"{name}.{parameter} is not explained"


def test_what_the_paper_sets_otherwise_is_shown(weir: Any) -> None:
    shown = weir("detectors", "show", "autoencoder").out

    assert "noise=0.1  (paper: 0.0)" in shown
    assert "References:" in shown


def test_an_unknown_detector_gets_the_nearest_name(weir: Any) -> None:
    result = weir("detectors", "show", "autoencode")

    assert result.code == 1
    assert "did you mean autoencoder?" in result.err
