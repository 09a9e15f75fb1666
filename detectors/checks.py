"""What every `fit` checks first."""

from detectors.base import Detector, Matrix, check_rows
from detectors.errors import FitError, ShapeError


def check_training(detector: Detector, normal: Matrix, held_out: Matrix, *, least: int) -> None:
    """Refuse training rows that no detector can learn from.

    Raises
    ------
    ShapeError
        If a matrix is not float64, not finite, or has no columns or other columns than the first.
    FitError
        If there are fewer than `least` normal rows, or no held-out row.
    """
    if normal.ndim != 2 or normal.shape[1] == 0:
        raise ShapeError(f"{detector.name}.fit: normal has shape {normal.shape}, expected (n, d) with d >= 1")
    check_rows(normal, normal.shape[1], where=f"{detector.name}.fit, normal")
    check_rows(held_out, normal.shape[1], where=f"{detector.name}.fit, held_out")
    for what, rows, need in (("normal", normal, least), ("held-out normal", held_out, 1)):
        if len(rows) < need:
            raise FitError(
                f"{detector.name}.fit: {len(rows)} {what} rows, expected at least {need}; "
                "give it more traffic or fewer columns"
            )
