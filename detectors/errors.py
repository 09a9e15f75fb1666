"""The errors of the detectors."""


class DetectorError(Exception):
    """A detector cannot do what it was asked."""


class NotFittedError(DetectorError):
    """Scores were asked for before the detector had learned anything."""

    def __init__(self, detector: object, method: str) -> None:
        name = type(detector).__name__
        super().__init__(
            f"{name}.{method}() needs a fitted detector; call {name}.fit() first or load a bundle"
        )


class ShapeError(DetectorError):
    """An array has another shape, type or content than promised."""


class FitError(DetectorError):
    """The training data do not suffice, or contradict the settings."""


class StateError(DetectorError):
    """A saved state is incomplete, damaged or of another detector."""


class ParameterError(DetectorError):
    """A parameter is unknown or out of its range."""
