"""Bundles: what is written is what is read, whole or not at all, and every changed byte is noticed."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from detectors import registry
from detectors.base import Detector
from detectors.calibration import Calibration
from pipeline import bundle_files
from pipeline.bundle import Bundle, list_bundles, load_bundle, plain, write_bundle
from pipeline.bundle_files import CHECKSUM, MANIFEST, STALE_S, versions, write_folder
from pipeline.errors import BundleError
from pipeline.features.base import CARRIED
from pipeline.features.feature_sets import feature_set
from pipeline.features.normaliser import Normaliser
from pipeline.terms import named_terms

CHOSEN = feature_set("unsw-nb15")
FEW = {"n_noise": 2, "n_members": 1, "max_epochs": 3}


def _features(n: int, seed: int) -> pa.RecordBatch:
    """Return plausible features: sizes that go together, one category that is rare, one constant."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 1, n)
    columns: list[pa.Array] = [pa.nulls(n, CHOSEN.schema.field(name).type) for name in CARRIED]
    for i, feature in enumerate(CHOSEN.features):
        if feature.kind == "categorical":
            columns.append(pa.array(np.where(rng.random(n) < 0.1, 2, 1), feature.type))
        elif feature.name == "swin":
            columns.append(pa.array(np.full(n, 255.0), feature.type))
        else:
            noise = rng.normal(0, 0.3 + 0.1 * (i % 3), n)
            columns.append(pa.array(np.exp(3 + common * (i % 2) + noise), feature.type))
    return pa.RecordBatch.from_arrays(columns, schema=CHOSEN.schema)


FIT, VAL, CAL, NEW = (_features(600, seed) for seed in range(4))

Parts = tuple[Detector, Normaliser, Calibration]


def _trained(name: str) -> Parts:
    detector = registry.create(name, FEW if name == "beaa" else {})
    normaliser = Normaliser.fit(CHOSEN, FIT, kinds=detector.columns, scaling=detector.scaling)
    rng = np.random.default_rng(0)
    detector.fit(normaliser.matrix(FIT), held_out=normaliser.matrix(VAL), rng=rng)
    return detector, normaliser, Calibration.fit(detector.score(normaliser.matrix(CAL)))


@pytest.fixture(scope="module", params=["beaa", "bn", "knn", "robust_z"])
def trained(request: pytest.FixtureRequest) -> Parts:
    """Each kind of detector, fitted and calibrated."""
    return _trained(request.param)


@pytest.fixture(scope="module")
def simple() -> Parts:
    """The cheapest detector, where any will do."""
    return _trained("robust_z")


def _write(models: Path, parts: Parts, name: str = "unsw", **changes: object) -> Bundle:
    detector, normaliser, calibration = parts
    arguments = {
        "calibration_rows": CAL,
        "seed": 7,
        "data": {"dataset": "made", "split": {"fit": {"n": 600}}},
        "figures": {"roc_auc": np.float64(0.97), "recall": float("nan")},
        "notes": ["Made for a test."],
    } | changes
    return write_bundle(
        models, name, detector=detector, normaliser=normaliser, calibration=calibration, **arguments
    )


def test_loaded_bundle_judges_bit_for_bit(tmp_path: Path, trained: Parts) -> None:
    """Matrix, scores, p-values and what moved are those of the model that was written."""
    detector, normaliser, calibration = trained
    _write(tmp_path, trained)

    bundle = load_bundle("unsw", tmp_path)

    x = bundle.normaliser.matrix(NEW)
    scores = bundle.detector.score(x)
    assert x.tobytes() == normaliser.matrix(NEW).tobytes()
    assert scores.tobytes() == detector.score(x).tobytes()
    assert bundle.calibration.p_value(scores).tobytes() == calibration.p_value(scores).tobytes()
    assert bundle.feature_set is CHOSEN
    assert bundle.detector.parameters() == detector.parameters()


def test_terms_have_the_names_of_features(tmp_path: Path, trained: Parts) -> None:
    """Every term has a label and someone it is about; columns are called by their feature."""
    bundle = _write(tmp_path, trained)
    detector, normaliser, _ = trained
    names = {column.label for column in normaliser.columns}

    assert len(bundle.term_labels) == len(bundle.term_about) == len(detector.labels)
    assert [t.kind for t in bundle.term_labels] == [t.kind for t in detector.labels]
    assert {t.id for t in bundle.term_labels if t.kind != "noise_direction"} <= names
    assert set(bundle.term_about) <= {"flow", "src", "dst", "pair"}


def test_term_is_about_whom_its_feature_is_about() -> None:
    """A column's own feature decides, of a noise direction the one that moves it most."""
    conn = feature_set("conn")
    rng = np.random.default_rng(1)
    n = 400
    common = rng.normal(0, 1, n)
    loud = {"src_flows_60s", "src_dsts_60s", "src_dst_ports_60s", "src_failed_60s"}
    columns = [pa.nulls(n, conn.schema.field(name).type) for name in CARRIED]
    for feature in conn.features:
        if feature.kind == "categorical":
            columns.append(pa.array(rng.integers(1, 3, n), feature.type))
        else:
            signal = 3.0 * common if feature.name in loud else 0.0
            columns.append(pa.array(np.exp(2 + signal + rng.normal(0, 0.5, n)), feature.type))
    rows = pa.RecordBatch.from_arrays(columns, schema=conn.schema)
    detector = registry.create("beaa", FEW | {"n_noise": 1})
    normaliser = Normaliser.fit(conn, rows, kinds=detector.columns, scaling=detector.scaling)
    x = normaliser.matrix(rows)
    detector.fit(x, held_out=x, rng=rng)

    direction, *residuals = named_terms(detector, normaliser, x)

    assert (direction.term.kind, direction.term.id, direction.about) == ("noise_direction", "n1", "src")
    assert {loading.column.feature for loading in direction.loadings[:4]} == loud
    about = {feature.name: feature.about for feature in conn.features}
    assert [(r.term.id, r.about) for r in residuals] == [(f.name, about[f.name]) for f in normaliser.inputs]


def test_loadings_are_signed_and_largest_first(simple: Parts) -> None:
    """A feature term is moved by its own column alone, upwards, by one robust spread."""
    detector, normaliser, _ = simple
    terms = named_terms(detector, normaliser, normaliser.matrix(CAL))

    for term in terms:
        values = [loading.value for loading in term.loadings]
        assert values == sorted(values, key=abs, reverse=True)
        assert [loading.column.label for loading in term.loadings] in ([term.term.id], [])
        assert all(value > 0 for value in values)


def test_manifest_says_how_the_model_was_made(tmp_path: Path, simple: Parts) -> None:
    """Detector, seed, feature set, data, figures, libraries; what is no number is null."""
    manifest = _write(tmp_path, simple).manifest

    assert manifest["detector"] == {"name": "robust_z", "parameters": {}}
    assert manifest["feature_set"] == {"name": "unsw-nb15", "hash": CHOSEN.hash}
    assert (manifest["seed"], manifest["version"], manifest["format"]) == (7, 1, 1)
    assert manifest["figures"] == {"roc_auc": 0.97, "recall": None}
    assert manifest["data"]["split"]["fit"]["n"] == 600
    assert {"python", "numpy", "pyarrow", "machine"} <= set(manifest["libraries"])


def test_moved_rows_of_the_calibration_give_their_p_value(tmp_path: Path, simple: Parts) -> None:
    """One in 601: no calibration row moved; with six of them, seven."""
    swin = CAL.column("swin").to_numpy().copy()
    swin[:6] = 1.0
    at = CAL.schema.get_field_index("swin")
    moved = CAL.set_column(at, CAL.schema.field(at), pa.array(swin))

    assert _write(tmp_path, simple).p_moved == 1 / 601
    assert _write(tmp_path, simple, calibration_rows=moved).p_moved == 7 / 601


def test_same_training_gives_the_same_bytes(tmp_path: Path, simple: Parts) -> None:
    """Nothing of the moment is in a bundle: equal models have equal hashes."""
    first, second = _write(tmp_path / "a", simple), _write(tmp_path / "b", simple)

    assert first.sha256 == second.sha256


def test_card_tells_terms_data_and_limits(tmp_path: Path) -> None:
    """A person reads the loadings in words, the data, the figures and the notes."""
    card = (_write(tmp_path, _trained("beaa")).path / "card.md").read_text(encoding="utf-8")

    for part in (
        "# unsw: beaa on unsw-nb15:",
        "- dataset: made",
        "- roc_auc: 0.97",
        "### n1 (about: flow",
        "bytes sent by the source",
        "- swin was always 255",
        "- Made for a test.",
    ):
        assert part in card


def test_versions_count_up_and_the_newest_is_the_default(tmp_path: Path, simple: Parts) -> None:
    """A name alone is its newest version, by number; name/version and the folder name one."""
    for _ in range(10):
        _write(tmp_path, simple)

    assert load_bundle("unsw", tmp_path).version == "10"
    assert load_bundle("unsw/2", tmp_path).version == "2"
    assert load_bundle(tmp_path / "unsw" / "3", Path("nowhere")).version == "3"
    assert load_bundle(str(tmp_path / "unsw" / "3"), Path("nowhere")).version == "3"
    assert versions(tmp_path / "unsw") == list(range(1, 11))


FILES = [
    "manifest.json",
    "manifest.sha256",
    "normaliser.json",
    "state.json",
    "weights.safetensors",
    "calibration.parquet",
    "card.md",
]


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_refused(tmp_path: Path, simple: Parts, name: str) -> None:
    """Whatever byte of whatever file: the sentence names the file and says what to do."""
    path = _write(tmp_path, simple).path / name
    content = bytearray(path.read_bytes())
    for at in np.linspace(0, len(content) - 1, 5).astype(int):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        named = name if name != CHECKSUM else MANIFEST
        with pytest.raises(BundleError, match=rf"{named} does not have the SHA-256 .* train"):
            load_bundle("unsw", tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(tmp_path: Path, simple: Parts, name: str) -> None:
    """A bundle copied without one of its files is refused."""
    bundle = _write(tmp_path, simple)
    (bundle.path / name).unlink()

    with pytest.raises(BundleError, match=rf"{name} cannot be read \(No such file"):
        load_bundle("unsw/1", tmp_path)


def _rewritten(bundle: Bundle, change: Callable[[dict], object]) -> Path:
    """Change the manifest and make its checksum right again."""
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    change(manifest)
    bundle_files._write_manifest(bundle.path, manifest)
    return bundle.path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda m: m["feature_set"].update(hash="0" * 16),
            rf"trained on feature set unsw-nb15:0{{16}}, but this program has {CHOSEN.id}; train",
        ),
        (lambda m: m["feature_set"].update(name="unsw"), "no feature set is called 'unsw'.* did you mean"),
        (
            lambda m: m["detector"].update(name="robustz"),
            "detector 'robustz' is unknown; did you mean robust_z",
        ),
        (lambda m: m["detector"].update(parameters={"k": 1}), "k is no parameter"),
        (lambda m: m.update(format=2), "has format 2, this version reads 1"),
        (lambda m: m.pop("terms"), "lacks something that a bundle needs .*'terms'"),
        (lambda m: m["terms"].pop(), "not of one model"),
        (lambda m: m["files"].pop("calibration.parquet"), "lacks something .*calibration.parquet"),
        (lambda m: m["files"].pop("weights.safetensors"), "weights.safetensors is missing"),
        (lambda m: m["files"].update({"../../etc/passwd": ""}), "expected one in the same folder"),
        (lambda m: m.pop("files"), "is no manifest of a bundle"),
    ],
)
def test_bundle_that_does_not_fit_is_refused(
    tmp_path: Path, simple: Parts, change: Callable[[dict], object], words: str
) -> None:
    """Another feature set, detector or format: one sentence that names what was found and expected."""
    path = _rewritten(_write(tmp_path, simple), change)

    with pytest.raises(BundleError, match=words):
        load_bundle(path, tmp_path)


def test_missing_model_names_what_there_is(tmp_path: Path, simple: Parts) -> None:
    """A misspelt name, a version that is not there, an empty folder: each says what is."""
    with pytest.raises(BundleError, match=r"no model 'unsw' in .*: the folder holds no model; train one"):
        load_bundle("unsw", tmp_path)
    _write(tmp_path, simple)
    with pytest.raises(BundleError, match=r"no model 'unws' in .*; there are unsw/1; did you mean unsw"):
        load_bundle("unws", tmp_path)
    with pytest.raises(BundleError, match=r"no model 'unsw/2' in .*; there are unsw/1"):
        load_bundle("unsw/2", tmp_path)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 65])
def test_name_must_be_a_plain_folder_name(tmp_path: Path, simple: Parts, name: str) -> None:
    """No name leads out of the models' folder or hides in it."""
    with pytest.raises(BundleError, match=r"is no name for a model"):
        _write(tmp_path, simple, name)


def test_other_rows_than_those_calibrated_on_are_refused(tmp_path: Path, simple: Parts) -> None:
    """The rows must be those whose scores the calibration holds."""
    with pytest.raises(BundleError, match=r"calibration has 5 rows and 600 scores"):
        _write(tmp_path, simple, calibration_rows=CAL.slice(0, 5))


def test_list_shows_every_bundle_and_what_is_wrong_with_it(tmp_path: Path, simple: Parts) -> None:
    """By name and version; a damaged one is listed with its problem, rubbish is not listed."""
    _write(tmp_path, simple, "b")
    _write(tmp_path, simple, "a")
    damaged = _write(tmp_path, simple, "a").path / MANIFEST
    damaged.write_text("{}")
    (tmp_path / "a" / "notes").mkdir()
    (tmp_path / "file").touch()

    listed = list_bundles(tmp_path)

    assert [(b.name, b.version) for b in listed] == [("a", 1), ("a", 2), ("b", 1)]
    assert [bool(b.problem) for b in listed] == [False, True, False]
    assert listed[0].manifest["detector"]["name"] == "robust_z"
    assert list_bundles(tmp_path / "nowhere") == []


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """Where a file cannot be written, no version appears and no rubbish stays."""
    with pytest.raises(BundleError, match=r"cannot be written .No such file or directory.; give a folder"):
        write_folder(tmp_path / "m", {}, {"a": b"1", "no/such/folder": b"2"})

    assert list((tmp_path / "m").iterdir()) == []


KILLED_BEFORE_RENAME = """
import os, sys, pathlib
from pipeline import bundle_files
pathlib.Path.rename = lambda *_: os._exit(9)  # the machine stops here
bundle_files.write_folder(pathlib.Path(sys.argv[1]), {}, {"a": b"1"})
"""


def test_half_written_bundle_is_never_visible(tmp_path: Path, simple: Parts) -> None:
    """A writer that dies before the rename leaves a folder that no one takes for a model."""
    models = tmp_path / "unsw"
    done = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_RENAME, str(models)],
        check=False,
        cwd=Path(bundle_files.__file__).parent.parent,
    )

    assert done.returncode == 9
    assert [p.name.startswith(".partial-") for p in models.iterdir()] == [True]
    assert list_bundles(tmp_path) == []
    with pytest.raises(BundleError, match=r"no model 'unsw'"):
        load_bundle("unsw", tmp_path)
    assert _write(tmp_path, simple).version == "1"


def test_what_a_killed_writer_left_is_swept_when_nobody_can_be_writing_it(
    tmp_path: Path, simple: Parts
) -> None:
    """The next writer removes it after a day; a folder that was just touched, and a file, stay."""
    models, now = tmp_path / "simple", time.time()
    for name, age_s in (("stale", 2 * STALE_S), ("written", 2 * STALE_S), ("fresh", 0.0)):
        folder = models / f".partial-{name}"
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"1")
        os.utime(folder / "weights", (now, now - (0.0 if name == "written" else age_s)))
        os.utime(folder, (now, now - age_s))
    (models / ".partial-file").write_bytes(b"")
    os.utime(models / ".partial-file", (0, 0))

    _write(tmp_path, simple, name="simple")

    left = [".partial-file", ".partial-fresh", ".partial-written"]
    assert sorted(p.name for p in models.iterdir()) == [*left, "1"]


def test_writers_at_the_same_time_take_different_numbers(
    tmp_path: Path, simple: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds its number taken at the last moment takes the next one."""
    _write(tmp_path, simple)
    stale = iter([1])
    real = bundle_files.next_version
    monkeypatch.setattr(bundle_files, "next_version", lambda parent: next(stale, None) or real(parent))

    bundle = _write(tmp_path, simple)

    assert (bundle.version, bundle.manifest["version"]) == ("2", 2)
    assert load_bundle("unsw/1", tmp_path).version == "1"


def test_checksum_is_what_sha256sum_reads(tmp_path: Path, simple: Parts) -> None:
    """A person can check a bundle with the tool that every system has."""
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("sha256sum is not installed")
    path = _write(tmp_path, simple).path

    done = subprocess.run([tool, "-c", CHECKSUM], cwd=path, check=False, capture_output=True, text=True)

    assert done.stdout == "manifest.json: OK\n"


def test_plain_values_are_json() -> None:
    """numpy numbers, tuples and arrays become what JSON has; NaN and infinity become null."""
    made = {
        "a": np.float32(0.5),
        "b": (1, np.int64(2)),
        "c": np.array([1.0, np.nan]),
        3: float("inf"),
        "d": None,
    }

    assert plain(made) == {"a": 0.5, "b": [1, 2], "c": [1.0, None], "3": None, "d": None}
