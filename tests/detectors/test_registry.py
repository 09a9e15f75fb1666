"""Detectors are found by name, also those of others, and mistakes are answered in words."""

import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from detectors import registry
from detectors.base import Detector, State
from detectors.errors import DetectorError, FitError, ParameterError, StateError
from detectors.registry import DETECTORS, UnknownDetectorError, create, detector_class, names
from detectors.state import array, dump_state, load_state


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_name_gives_the_detector_of_that_name(name: str) -> None:
    assert detector_class(name).name == name
    assert isinstance(create(name), Detector)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UnknownDetectorError, match=r"'beea' is unknown; did you mean beaa\?; known: .*beaa, bn, .*knn"
    ):
        create("beea")


def test_an_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(ParameterError, match=r"beaa\.n_nose is no parameter; did you mean n_noise\?"):
        create("beaa", {"n_nose": 3})
    with pytest.raises(ParameterError, match=r"robust_z\.k is no parameter; known: none"):
        create("robust_z", {"k": 3})


def test_parameters_reach_the_detector() -> None:
    assert create("beaa", {"n_noise": 3}).parameters()["n_noise"] == 3


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=registry.GROUP)


def test_other_packages_add_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point is a detector like any other; it cannot take a built-in name."""
    entries = [
        entry("mine", "detectors.robust_z:RobustZScore"),
        entry("bn", "detectors.robust_z:RobustZScore"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == registry.GROUP else [])

    assert "mine" in names()
    assert type(create("mine")).__name__ == "RobustZScore"
    assert type(create("bn")).__name__ == "BayesianNetwork"


def test_an_entry_that_is_no_detector_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry("odd", "detectors.tiles:by_tiles")]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == registry.GROUP else [])

    with pytest.raises(DetectorError, match="expected a subclass"):
        create("odd")


STATE = State(parameters={"b": [1, 2.5], "a": None}, arrays={"y": np.arange(3.0), "x": np.ones((2, 0))})


def test_a_state_survives_its_bytes() -> None:
    again = load_state(dump_state(STATE))

    assert dict(again.parameters) == dict(STATE.parameters)
    assert again.arrays.keys() == STATE.arrays.keys()
    for name, value in STATE.arrays.items():
        np.testing.assert_array_equal(value, again.arrays[name])


def test_equal_states_have_equal_bytes() -> None:
    """Whatever order they were put together in, and however the arrays lie in memory."""
    other = State(
        parameters={"a": None, "b": [1, 2.5]}, arrays={"x": np.ones((2, 0)), "y": np.arange(6.0)[::2] / 2}
    )

    assert dump_state(STATE) == dump_state(other)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "state.json is missing"),
        ({"state.json": b"{}"}, "weights.safetensors is missing"),
        ({"state.json": b"{", "weights.safetensors": b""}, "state.json is not JSON"),
        ({"state.json": b"[]", "weights.safetensors": b""}, "expected an object"),
        ({"state.json": b"{}", "weights.safetensors": b"xx"}, "weights.safetensors is damaged"),
    ],
)
def test_damaged_files_are_named(files: dict[str, bytes], said: str) -> None:
    with pytest.raises(StateError, match=said):
        load_state(files)


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump_state(State(parameters={"x": float("nan")}))


def test_an_array_of_another_shape_is_refused() -> None:
    with pytest.raises(StateError, match=r"array 'y' is float64 \(3,\), expected float64 \(4,\)"):
        array(STATE, "y", 4)


def test_a_detector_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are trained with torch, which is an extra."""
    monkeypatch.setitem(sys.modules, "torch", None)
    rows = np.random.default_rng(0).normal(size=(50, 3))

    with pytest.raises(FitError, match=r"autoencoder\.fit needs torch; install it: pip install"):
        create("autoencoder").fit(rows, held_out=rows, rng=np.random.default_rng(0))


def test_a_detector_of_another_package_is_found_by_its_entry_point() -> None:
    """The written example is installed with the tools of development: the contract suite runs over it too."""
    if "mahalanobis" not in names():
        pytest.skip("the example is not installed: pip install docs/examples/weir-mahalanobis")

    assert "mahalanobis" not in DETECTORS
    assert create("mahalanobis", {"shrinkage": 0.5}).parameters() == {"shrinkage": 0.5}


@pytest.mark.parametrize("wrong", ["no such thing", {"a": 1}, [[]]])
@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_wrong_parameter_is_named_whatever_it_is(name: str, wrong: object) -> None:
    """A person's slip is answered in words, by every parameter of every detector."""
    for parameter in create(name).parameters():
        with pytest.raises(ParameterError, match=parameter):
            create(name, {parameter: wrong})
