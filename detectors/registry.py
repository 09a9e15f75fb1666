"""Every detector by its name; a detector's module is loaded when it is asked for."""

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from detectors.base import Detector
from detectors.errors import DetectorError, ParameterError

DETECTORS: dict[str, str] = {
    "aae": "detectors.aae:AAE",
    "advae": "detectors.advae:AdVAE",
    "alad": "detectors.alad:ALAD",
    "anoean": "detectors.anoean:AnoEAN",
    "anogan": "detectors.anogan:AnoGAN",
    "autoencoder": "detectors.autoencoder:Autoencoder",
    "beaa": "detectors.beaa:BEAA",
    "bn": "detectors.bn:BayesianNetwork",
    "bn_mixture": "detectors.bn_mixture:BNMixture",
    "dte_nn": "detectors.dte_nn:DiffusionTime",
    "ecod": "detectors.ecod:ECOD",
    "egbad": "detectors.egbad:EGBAD",
    "gan_discriminator": "detectors.gan_discriminator:GanDiscriminator",
    "gan_generator": "detectors.gan_generator:GanGenerator",
    "ganomaly": "detectors.ganomaly:GANomaly",
    "hbos": "detectors.hbos:HBOS",
    "isolation_forest": "detectors.isolation_forest:IsolationForest",
    "knn": "detectors.knn:NearestNeighbours",
    "mo_gaal": "detectors.mo_gaal:ManyGenerators",
    "ocsvm": "detectors.ocsvm:OneClassSVM",
    "pu_gan": "detectors.pu_gan:PUGAN",
    "robust_z": "detectors.robust_z:RobustZScore",
    "svm": "detectors.svm:SupportVectors",
    "vae": "detectors.vae:VAE",
}
"""Name -> module:class of the built-in detectors."""

WRAPPERS: dict[str, str] = {"contexts": "detectors.contexts:Contexts"}
"""Those that are made of others: found by name, as a bundle needs it, but not listed."""

GROUP = "weir.detectors"
"""Entry-point group of detectors in other packages; a built-in name cannot be taken over."""


class UnknownDetectorError(DetectorError):
    """No detector has this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(f"detector {name!r} is unknown{nearest(name, names)}; known: {', '.join(names)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?", or nothing if no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def names() -> list[str]:
    """Return the names of all detectors, built in and from other packages."""
    return sorted({*DETECTORS, *_entries()})


def detector_class(name: str) -> type[Detector]:
    """Return the class of a detector.

    Raises
    ------
    UnknownDetectorError
        If no detector has this name.

    Examples
    --------
    >>> detector_class("robust_z").__name__
    'RobustZScore'
    >>> detector_class("robustz")
    Traceback (most recent call last):
    ...
    detectors.registry.UnknownDetectorError: detector 'robustz' is unknown; did you mean robust_z?; ...
    """
    if name in (built_in := DETECTORS | WRAPPERS):
        module, _, attribute = built_in[name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
    elif name in (entries := _entries()):
        found = entries[name].load()
    else:
        raise UnknownDetectorError(name, names())
    if not (inspect.isclass(found) and issubclass(found, Detector)):
        raise DetectorError(f"detector {name!r} is {found!r}, expected a subclass of detectors.base.Detector")
    return found


def create(name: str, parameters: Mapping[str, Any] | None = None) -> Detector:
    """Return an unfitted detector with the given hyper-parameters.

    Raises
    ------
    UnknownDetectorError
        If no detector has this name.
    ParameterError
        If a parameter is unknown or out of its range.
    """
    cls = detector_class(name)
    known = inspect.signature(cls).parameters
    for parameter in parameters or {}:
        if parameter not in known:
            listed = ", ".join(known) or "none"
            raise ParameterError(
                f"{name}.{parameter} is no parameter{nearest(parameter, known)}; known: {listed}"
            )
    return cls(**(parameters or {}))


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
