"""Tiles keep the bits of a row."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import Matrix
from detectors.tiles import LARGEST, ROWS, Projection, by_tiles, elementwise


def projection(rng: np.random.Generator, k: int, d: int) -> Projection:
    return Projection(rng.normal(size=(k, d)), rng.normal(size=k))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 122), st.integers(1, 60), st.integers(0, 600))
def test_a_row_has_the_same_bits_at_any_place(seed: int, d: int, k: int, shift: int) -> None:
    """Other rows before it, other rows after it, or none: y and its norm do not change a bit."""
    rng = np.random.default_rng(seed)
    project, x = projection(rng, k, d), rng.normal(size=(30, d))
    moved = np.vstack([rng.normal(size=(shift, d)), x, rng.normal(size=(11, d))])
    place = slice(shift, shift + 30)

    np.testing.assert_array_equal(project(x), project(moved)[place])
    np.testing.assert_array_equal(
        by_tiles(x, project.squared_norms, 1), by_tiles(moved, project.squared_norms, 1)[place]
    )


def test_projection_is_the_affine_map() -> None:
    rng = np.random.default_rng(0)
    project, x = projection(rng, 5, 3), rng.normal(size=(2 * ROWS + 1, 3))

    np.testing.assert_allclose(x @ project.weights.T + project.constants, project(x), rtol=1e-12)
    np.testing.assert_allclose(
        np.sum(project(x) ** 2, axis=1), by_tiles(x, project.squared_norms, 1)[:, 0], rtol=1e-12
    )
    np.testing.assert_allclose(
        project.contributions(x).sum(axis=2) + project.constants, project(x), rtol=1e-10, atol=1e-12
    )


def test_missing_rows_of_a_tile_are_zeros() -> None:
    """Nothing of an earlier tile is left in the last, shorter one."""
    seen: list[Matrix] = []

    def look(tile: Matrix) -> Matrix:
        seen.append(tile.copy())
        return tile[:1]

    by_tiles(np.ones((ROWS + 3, 2)), look, 1)

    np.testing.assert_array_equal([2.0 * ROWS, 6.0], [tile[:2].sum() for tile in seen])
    assert all((tile[2] == 1.0).all() for tile in seen)


def test_huge_values_are_cut() -> None:
    """The largest float is cut to a size whose square is finite."""
    project = Projection(np.eye(2), np.zeros(2))
    top = np.finfo(np.float64).max

    np.testing.assert_array_equal([[LARGEST, -LARGEST]], project(np.array([[top, -top]])))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_an_element_has_the_same_bits_at_any_place(seed: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    values, before = rng.exponential(size=40), rng.exponential(size=shift)

    def function(v: np.ndarray) -> np.ndarray:
        return np.exp(-np.log1p(v) / 0.3)

    moved = elementwise(np.concatenate([before, values]), function)
    np.testing.assert_array_equal(elementwise(values, function), moved[shift:])
