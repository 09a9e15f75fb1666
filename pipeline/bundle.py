"""Model bundles: `models/NAME/VERSION/`, all that a worker needs to judge with a trained model.

    manifest.json        what it is, how it was made, the SHA-256 of every other file
    manifest.sha256      the SHA-256 of the manifest
    normaliser.json      from features to the detector's matrix
    state.json           what the detector learned: JSON values
    weights.safetensors  what the detector learned: arrays
    calibration.parquet  scores of held-out normal traffic
    reference.parquet    how the features of normal training traffic were distributed
    card.md              for people: what its terms mean, data, figures, limits
    *.png                pictures of the card

Nothing in it is ever unpickled.
"""

import importlib.metadata
import io
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from detectors import registry
from detectors.base import Detector, Term
from detectors.calibration import Calibration
from detectors.errors import DetectorError
from detectors.state import dump_state, load_state
from pipeline.bundle_files import (
    COPY_AGAIN,
    MANIFEST,
    Folder,
    read_folder,
    read_manifest,
    versions,
    write_folder,
)
from pipeline.card import card
from pipeline.errors import BundleError, FeatureSetError
from pipeline.features.base import FeatureSet
from pipeline.features.feature_sets import feature_set
from pipeline.features.normaliser import Normaliser, Rows
from pipeline.history import source_numbers
from pipeline.reference import Reference
from pipeline.terms import named_terms
from pipeline.verdict import Loading

FORMAT = 1
NORMALISER, CALIBRATION, CARD = "normaliser.json", "calibration.parquet", "card.md"
REFERENCE = "reference.parquet"
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}")
LIBRARIES = ("weir", "numpy", "scipy", "pyarrow", "numba", "scikit-learn", "pybnesian", "torch")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A trained model, calibrated, with its normaliser and its manifest; made by `load_bundle`."""

    name: str
    version: str
    sha256: str  # of the manifest, and so of every file
    path: Path
    manifest: Mapping[str, Any] = field(repr=False)
    normaliser: Normaliser = field(repr=False)
    detector: Detector = field(repr=False)
    calibration: Calibration = field(repr=False)
    term_labels: tuple[Term, ...] = field(repr=False)  # of the detector, columns by their feature's name
    term_about: tuple[str, ...] = field(repr=False)  # for each term: flow, src, dst or pair
    term_loadings: tuple[tuple[Loading, ...], ...] = field(repr=False)  # of noise directions, largest first
    reference: Reference | None = field(default=None, repr=False)  # None: drift cannot be seen

    @property
    def feature_set(self) -> FeatureSet:
        """The feature set that the model was trained on; the same in this program."""
        return self.normaliser.feature_set

    @property
    def p_moved(self) -> float:
        """The p-value of a watched feature that moved: how rare that was in calibration."""
        rows = self.manifest["calibration"]
        return float((1 + rows["n_moved"]) / (1 + rows["n"]))


def write_bundle(
    models_dir: Path,
    name: str,
    *,
    detector: Detector,
    normaliser: Normaliser,
    calibration: Calibration,
    calibration_rows: Rows,
    seed: int,
    data: Mapping[str, Any],
    figures: Mapping[str, Any],
    notes: Sequence[str] = (),
    pictures: Mapping[str, bytes] | None = None,
    reference: Reference | None = None,
    budget: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a model as the next version under its name, and return it as a worker would load it.

    Parameters
    ----------
    models_dir : Path
        Folder of all models; made if it is not there.
    name : str
        Letters, digits, `-` and `_`.
    detector, normaliser, calibration
        As fitted.
    calibration_rows : RecordBatch or Table
        The features whose scores `calibration` holds: they tell how often a watched feature moves,
        and what the terms consist of on normal traffic.
    seed : int
        Of the training.
    data : mapping
        What it was trained on, as JSON: dataset, fingerprint, split with counts and spans.
    figures : mapping
        How it did on held-out rows, as JSON; numbers that are not finite become null.
    notes : sequence of str
        Limits that a person should know, one sentence each.
    pictures : mapping, optional
        File name -> PNG, shown by the card.
    reference : Reference, optional
        Of its training traffic; without it workers cannot see drift.
    budget : mapping, optional
        The budget of false alarms that it was calibrated for, as JSON.

    Raises
    ------
    BundleError
        If the name cannot be a folder's, or the rows are not those of the calibration.
    """
    if NAME.fullmatch(name) is None:
        raise BundleError(f"{name!r} is no name for a model, expected letters, digits, - and _, at most 64")
    if calibration_rows.num_rows != calibration.scores.size:
        found = f"{calibration_rows.num_rows} rows and {calibration.scores.size} scores"
        raise BundleError(f"{name}: calibration has {found}, expected the rows that were scored")
    sample = normaliser.matrix(calibration_rows)
    terms = named_terms(detector, normaliser, sample, source_numbers(calibration_rows))
    manifest = plain(
        {
            "format": FORMAT,
            "name": name,
            "detector": {"name": detector.name, "parameters": detector.parameters()},
            "seed": seed,
            "feature_set": {"name": normaliser.feature_set.name, "hash": normaliser.feature_set.hash},
            "data": data,
            "figures": figures,
            "calibration": {
                "n": calibration_rows.num_rows,
                "n_moved": int(normaliser.moved(calibration_rows).rows.sum()),
                "notes": calibration.notes,
            },
            **({"budget": budget} if budget else {}),
            "notes": notes,
            "terms": [term.to_json() for term in terms],
            "libraries": libraries(),
        }
    )
    files = {
        NORMALISER: normaliser.to_json().encode(),
        CALIBRATION: _dump_calibration(calibration),
        CARD: card(manifest, normaliser, terms, sorted(pictures or {})).encode(),
        **dump_state(detector.state()),
        **({REFERENCE: reference.to_parquet()} if reference else {}),
        **(pictures or {}),
    }
    return load_bundle(write_folder(models_dir / name, manifest, files), models_dir)


def with_budget(bundle: Bundle, models_dir: Path, budget: Mapping[str, Any]) -> Bundle:
    """Write a model once more, as its next version, with another budget in its manifest."""
    folder = read_folder(bundle.path)
    kept = {name: value for name, value in folder.manifest.items() if name not in {"version", "files"}}
    path = write_folder(models_dir / bundle.name, {**kept, "budget": plain(budget)}, folder.files)
    return load_bundle(path, models_dir)


def detector_words(manifest: Mapping[str, Any]) -> str | None:
    """Return the name of a model's detector, and of the feature that has one for each value, if any.

    Examples
    --------
    >>> fits = {"name": "contexts", "parameters": {"detector": "beaa"}}
    >>> detector_words({"detector": fits, "data": {"contexts": {"feature": "transport"}}})
    'beaa by transport'
    """
    told: Mapping[str, Any] = manifest.get("detector", {})
    contexts = manifest.get("data", {}).get("contexts")
    name: str | None = (
        f"{told['parameters']['detector']} by {contexts['feature']}" if contexts else told.get("name")
    )
    return name


def plain(value: Any) -> Any:
    """Return `value` as JSON values: tuples as lists, numpy numbers as numbers, NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def libraries() -> dict[str, str]:
    """Return the versions of what the bits of a score depend on: libraries, Python, CPU type."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _dump_calibration(calibration: Calibration) -> bytes:
    arrays = calibration.to_arrays()
    scores = pa.table({"score": arrays.pop("scores")})
    rest = {name: json.dumps(array.tolist()) for name, array in arrays.items()}
    sink = io.BytesIO()
    pq.write_table(scores.replace_schema_metadata(rest), sink)
    return sink.getvalue()


def _load_calibration(content: bytes) -> Calibration:
    scores = pq.read_table(pa.BufferReader(content))
    arrays = {name.decode(): np.array(json.loads(text)) for name, text in scores.schema.metadata.items()}
    return Calibration.from_arrays({"scores": scores.column("score").to_numpy(), **arrays})


def load_bundle(model: str | Path, models_dir: Path) -> Bundle:
    """Return a model with every byte checked.

    Parameters
    ----------
    model : str or Path
        The folder of a bundle, or NAME/VERSION or NAME in `models_dir`; without a version the newest.
    models_dir : Path
        Folder of all models.

    Raises
    ------
    BundleError
        If it is not there, is damaged, or needs a detector or feature set that this program does
        not have; the message says what to do.
    """
    path = _find(model, models_dir)
    folder = read_folder(path)
    if folder.manifest.get("format") != FORMAT:
        seen = folder.manifest.get("format")
        raise BundleError(f"{path / MANIFEST} has format {seen!r}, this version reads {FORMAT}")
    try:
        return _assembled(path, folder)
    except (DetectorError, FeatureSetError) as error:
        raise BundleError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise BundleError(
            f"{path} lacks something that a bundle needs ({type(error).__name__}: {error}); {COPY_AGAIN}"
        ) from error


def _assembled(path: Path, folder: Folder) -> Bundle:
    manifest = folder.manifest
    normaliser = Normaliser.from_json(folder.files[NORMALISER].decode(), _same_set(manifest["feature_set"]))
    detector = registry.create(manifest["detector"]["name"], manifest["detector"]["parameters"])
    detector.restore(load_state(folder.files))
    terms = manifest["terms"]
    if detector.n_columns != len(normaliser.columns) or len(detector.labels) != len(terms):
        raise ValueError("detector, normaliser and terms are not of one model")
    return Bundle(
        name=manifest["name"],
        version=str(manifest["version"]),
        sha256=folder.sha256,
        path=path,
        manifest=manifest,
        normaliser=normaliser,
        detector=detector,
        calibration=_load_calibration(folder.files[CALIBRATION]),
        term_labels=tuple(Term(kind=term["kind"], id=term["id"]) for term in terms),
        term_about=tuple(term["about"] for term in terms),
        term_loadings=tuple(_loadings(term) for term in terms),
        reference=_reference(folder, normaliser.feature_set),
    )


def _reference(folder: Folder, of_set: FeatureSet) -> Reference | None:
    content = folder.files.get(REFERENCE)  # bundles of earlier versions have none
    return None if content is None else Reference.from_parquet(content, of_set)


def _loadings(term: Mapping[str, Any]) -> tuple[Loading, ...]:
    """Return what moves a noise direction; another term is named after what it is about."""
    told = term["loadings"] if term["kind"] == "noise_direction" else ()
    return tuple(Loading(name=name, value=value) for name, value in told)


def _same_set(trained_on: Mapping[str, str]) -> FeatureSet:
    known = feature_set(trained_on["name"])
    if known.hash != trained_on["hash"]:
        raise FeatureSetError(
            f"trained on feature set {trained_on['name']}:{trained_on['hash']}, but this program has "
            f"{known.id}; train the model again, or use the program version it was trained with"
        )
    return known


def _find(model: str | Path, models_dir: Path) -> Path:
    if (Path(model) / MANIFEST).is_file():
        return Path(model)
    path = models_dir / model
    if path.is_dir() and not (path / MANIFEST).is_file() and (found := versions(path)):
        return path / str(found[-1])
    if path.is_dir() and any(inside.is_file() for inside in path.iterdir()):
        return path
    raise BundleError(f"no model {str(model)!r} in {models_dir}{_hint(str(model), models_dir)}")


def _hint(model: str, models_dir: Path) -> str:
    known = [f"{found.name}/{found.version}" for found in list_bundles(models_dir)]
    if not known:
        return ": the folder holds no model; train one with weir train"
    name = model.split("/", maxsplit=1)[0]
    near = get_close_matches(name, {entry.split("/")[0] for entry in known}, n=1)
    return f"; there are {', '.join(known)}" + (f"; did you mean {near[0]}?" if near else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A bundle as its manifest describes it; its other files were not looked at."""

    name: str
    version: int
    path: Path
    sha256: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""  # why the manifest cannot be read


def list_bundles(models_dir: Path) -> list[Listed]:
    """Return the bundles in a folder by name and version; half-written ones are not among them."""
    names = sorted(p.name for p in models_dir.iterdir() if p.is_dir()) if models_dir.is_dir() else []
    names = [name for name in names if NAME.fullmatch(name)]
    return [_listed(models_dir / name, version) for name in names for version in versions(models_dir / name)]


def _listed(folder: Path, version: int) -> Listed:
    path = folder / str(version)
    try:
        manifest, sha256 = read_manifest(path)
    except BundleError as error:
        return Listed(name=folder.name, version=version, path=path, problem=str(error))
    return Listed(name=folder.name, version=version, path=path, sha256=sha256, manifest=manifest)
