"""Models of captured flows that nobody labelled: splits, what is left out, and what is said."""

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from captured_days import captured_file, day
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from connectors.table_fields import packed_address
from detectors.base import Scores
from pipeline.cli import main
from pipeline.features.feature_sets import feature_set
from pipeline.publication import address_text
from training.bursts import without_bursts
from training.captured import Captured, load_captured
from training.errors import DatasetError, TrainingError
from training.evaluate import evaluate
from training.metrics import NORMAL, average_precision
from training.train import Plan
from training.trimming import Trimming, least_odd, trimmed
from training.unlabelled import learn

CONN = feature_set("conn")
GAP_US = CONN.windows.widths_s[-1] * 1_000_000 if CONN.windows else 0
SCAN = ("port_scan", "host_sweep")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a capture of two lanes, half a year apart."""
    folder = tmp_path_factory.mktemp("quiet")
    captured_file(folder, day(0)[0], lane=0)
    captured_file(folder, day(180)[0], lane=1)
    return folder


@pytest.fixture(scope="module")
def dataset(quiet: Path) -> Captured:
    return load_captured(quiet, "conn")


def test_each_lane_is_cut_by_its_own_times(dataset: Captured) -> None:
    """Parts never share a row, follow each other in every lane, and are a widest window apart."""
    split = dataset.split(seed=0)
    parts = [split.fit, split.val, split.cal, split.test]
    together = np.concatenate(parts)

    assert np.unique(together).size == together.size
    assert together.size + split.left_out["gap"] == dataset.features.num_rows
    for lane in (0, 1):
        times = [dataset.times[rows[dataset.lanes[rows] == lane]] for rows in parts]
        assert all(part.size for part in times)
        for before, after in pairwise(times):
            assert after.min() > before.max() + GAP_US


def test_a_lane_too_short_to_be_split_is_left_out(quiet: Path, tmp_path: Path) -> None:
    captured_file(tmp_path, day(0)[0], lane=0)
    captured_file(tmp_path, day(0)[0].slice(0, 3), lane=1)
    split = load_captured(tmp_path, "conn").split(seed=0)

    assert split.left_out["lanes too short to be split"] == 3


def test_too_few_flows_say_so(tmp_path: Path) -> None:
    captured_file(tmp_path, day(0)[0].slice(0, 3))
    with pytest.raises(TrainingError, match="part has no rows"):
        load_captured(tmp_path, "conn").split(seed=0)


def test_hours_of_lanes_side_by_side_count_once(tmp_path: Path) -> None:
    for lane in (0, 1):
        captured_file(tmp_path, day(0)[0], lane=lane)

    assert load_captured(tmp_path, "conn").hours == pytest.approx(24, abs=0.2)


def test_folders_that_cannot_be_learned_from_say_why(tmp_path: Path) -> None:
    """Empty, of several feature sets, or of another one than this program has."""
    with pytest.raises(DatasetError, match="run weir capture --out"):
        load_captured(tmp_path, "conn")
    captured_file(tmp_path, day(0)[0].slice(0, 10), feature_set="conn:0123456789abcdef")
    with pytest.raises(DatasetError, match=f"conn:0123456789abcdef, but this program has {CONN.id}"):
        load_captured(tmp_path, "conn")
    captured_file(tmp_path, day(0)[0].slice(0, 10), first=1)
    with pytest.raises(DatasetError, match="mixes feature sets"):
        load_captured(tmp_path, "conn")


def test_only_the_newest_files_are_read(tmp_path: Path) -> None:
    for index in range(3):
        captured_file(tmp_path, day(0)[0].slice(100 * index, 100), first=index)
    found = load_captured(tmp_path, "conn", newest=250)

    assert found.features.num_rows == 200
    assert found.features.column("flow_id")[0].as_py() == day(0)[0].column("flow_id")[100].as_py()
    assert any("newest 2 of 3 files" in note for note in found.notes)


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e3, 1e3)), st.floats(0.01, 0.5))
def test_the_oddest_go(scores: Scores, share: float) -> None:
    """As many as the share says, rounded up, and none that scores below one that stays."""
    rows = np.arange(scores.size, dtype=np.int64)
    kept = least_odd(rows, scores, share)
    gone = np.setdiff1d(rows, kept)

    assert gone.size == int(np.ceil(share * rows.size))
    assert kept.size == 0 or scores[gone].min() >= scores[kept].max()


def test_what_is_left_out_is_told(dataset: Captured) -> None:
    """Counts of bursts, odd rows and calibration rows add up, with the sources that they are of."""
    split = dataset.split(seed=0)
    asked: list[int] = []

    def score(_split: object, rows: np.ndarray) -> Scores:
        asked.append(rows.size)
        return np.asarray(dataset.times[rows], dtype=np.float64)

    trimming = Trimming(contamination=0.1, trim_cal=True)
    found = trimmed(split, dataset, trimming, score)
    told = found.to_json(dataset, trimming)

    assert len(asked) == 1
    assert split.fit.size == found.split.fit.size + told["cut_from_bursts"] + told["left_out_as_odd"]
    assert split.cal.size == found.split.cal.size + told["left_out_of_calibration"]
    assert told["no_burst_in_a_minute"] == asdict(without_bursts(dataset, [split.fit])[1])
    assert max(told["bursts_mostly"]["sources"].values()) <= told["cut_from_bursts"]
    np.testing.assert_array_equal(split.test, found.split.test)
    json.dumps(told)


@pytest.mark.parametrize(("kinds", "seed"), [(SCAN, 1), (("syn_flood",), 3)])
def test_attacks_left_in_the_capture_do_not_become_normal(
    kinds: tuple[str, ...], seed: int, tmp_path: Path
) -> None:
    """With bursts cut, scans and floods stand out on the next day; learned whole, they do not."""
    features, labels = [], []
    for n in range(2):
        found = day(n, attacks=kinds, seed=seed)
        features.append(found[0])
        labels += found[1]
    captured_file(tmp_path / "capture", pa.concat_tables(features))
    loaded = load_captured(tmp_path / "capture", "conn")
    attack = np.array(labels, dtype=object) != NORMAL
    precision = {}
    for cut in (False, True):
        trimming = Trimming(cut_bursts=cut)
        learned = learn(
            loaded, Plan(detector="bn"), trimming, models_dir=tmp_path / "models", name=f"cut-{cut}"
        )
        rows = learned.trimmed.split.test
        scores = evaluate(learned.bundle, loaded, rows).scores
        precision[cut] = average_precision(attack[rows], scores)

    assert precision[True] > precision[False] + 0.1


@pytest.fixture(scope="module")
def beacon(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Return a capture of a day with a beacon, and who calls whom."""
    features, labels = day(0, attacks=("beaconing",), seed=8)
    folder = tmp_path_factory.mktemp("beacon") / "capture"
    captured_file(folder, features)
    at = list(labels).index("beaconing")
    source, destination = (address_text(features.column(name)[at].as_py()) for name in ("src_ip", "dst_ip"))
    return folder, source, destination


def test_a_beacon_is_told_before_it_is_normal(
    beacon: tuple[Path, str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who calls whom and how often stands in the output; a second training leaves it out."""
    folder, source, destination = beacon
    args = ["train", "conn", "--from", str(folder), "--detector", "bn", "--out", str(tmp_path)]

    first = main.run(args)
    told = capfd.readouterr().out
    second = main.run([*args, "--without", destination])
    without = capfd.readouterr().out

    assert (first, second) == (0, 0)
    (line,) = [
        line for line in told.splitlines() if line.startswith(f"  {source} -> {destination}:443 every ")
    ]
    assert 45 <= float(line.partition(" every ")[2].split()[0]) <= 120
    assert line.endswith("flows; nobody else calls there")
    assert "contacts call a public address by the clock" in told
    assert f"flows from or to {destination}" in without
    assert f"-> {destination}:443 every" not in without
    counted = [
        json.loads((tmp_path / "conn-bn" / version / "manifest.json").read_text())["data"]["trimming"]
        for version in ("1", "2")
    ]
    assert [told["left_out_by_address"] > 0 for told in counted] == [False, True]
    assert counted[0]["regular"]["n"] == counted[1]["regular"]["n"] + 1


def test_flows_of_named_addresses_are_in_no_part_but_the_test(beacon: tuple[Path, str, str]) -> None:
    """Neither what comes from an address nor what goes to it is learned; other flows stay."""
    loaded = load_captured(beacon[0], "conn")
    split = loaded.split(seed=0)
    named = packed_address(beacon[1]) or b""
    columns = [loaded.features.column(name).to_pylist() for name in ("src_ip", "dst_ip")]
    of_it = np.array([named in pair for pair in zip(*columns, strict=True)])

    found = trimmed(split, loaded, Trimming(cut_bursts=False, without=(named,)), lambda *_: np.zeros(0))

    for name, rows in split.parts.items():
        expected = rows if name == "test" else rows[~of_it[rows]]
        np.testing.assert_array_equal(expected, found.split.parts[name])
    np.testing.assert_array_equal(split.fit[of_it[split.fit]], found.named)
    assert found.n_cal == of_it[split.cal].sum() > 0


def test_what_is_no_address_is_refused(quiet: Path, capfd: pytest.CaptureFixture[str]) -> None:
    args = ["train", "conn", "--from", str(quiet), "--without", "evil.example.org"]

    assert main.run(args) == 2
    assert "'evil.example.org' is no address, expected one as 198.51.100.9" in capfd.readouterr().err


def test_a_detector_that_needs_labels_is_refused(dataset: Captured, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="captured flows have no labels"):
        learn(dataset, Plan(detector="svm"), Trimming(), models_dir=tmp_path, name="m")


@pytest.mark.parametrize(
    "trimming",
    [
        Trimming(),
        Trimming(cut_bursts=False, contamination=0.1),
        Trimming(cut_bursts=False, without=(bytes(16),)),
    ],
)
def test_sequences_are_not_torn(dataset: Captured, trimming: Trimming, tmp_path: Path) -> None:
    """A detector that looks back is refused, whatever would leave rows out between its others."""
    with pytest.raises(TrainingError, match="would tear its sequences"):
        learn(dataset, Plan(detector="pu_gan"), trimming, models_dir=tmp_path, name="m")


def test_the_command_says_what_it_left_out_and_how_the_model_alarms(
    quiet: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Bursts, odd flows, calibration, flagged flows an hour, uniformity, and flows to look at."""
    args = ["train", "conn", "--from", str(quiet), "--detector", "bn", "--out", str(tmp_path)]
    code = main.run([*args, "--contamination", "0.01", "--budget", "5/h"])
    out = capfd.readouterr().out

    assert code == 0
    for words in (
        "without labels", "from one source or ", "the oddest 0.01 by a first fit",
        "Calibration: ", "flagged an hour", "distance from uniform", "Oddest flows", "expected", "5 alarms/h",
    ):  # fmt: skip
        assert words in out
    manifest = json.loads((tmp_path / "conn-bn" / "1" / "manifest.json").read_text())
    assert manifest["data"]["trimming"]["contamination"] == 0.01
    assert manifest["figures"]["flagged_at_alpha"]["0.01"]["n_normal"] > 0
