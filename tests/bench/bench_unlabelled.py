"""What a model is worth that learns from captures with attacks in them: `... bench_unlabelled.py --help`."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

# As in a worker; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rig import Report, Table, arguments, spread

from connectors.source_synthetic import START, SyntheticSource
from connectors.sources import DATA_VARIABLE
from pipeline.features.arrays import times_us
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import offline_features
from training.captured import Captured
from training.datasets import load_dataset
from training.evaluate import Evaluation, evaluate
from training.metrics import average_precision, roc_auc
from training.splits import Split
from training.train import Plan, draft, fit
from training.trimming import Trimming
from training.unlabelled import learn

PLAN = """Flows are learned as by `weir train conn --from capture/`: half of the time to fit, then val, cal
and test; no label is seen, labels only judge the test part. {seeds} seeds, at most 50,000 rows to fit on;
mean and standard deviation. Alpha is 0.01.

- **Synthetic sites**: three days each, with seven attacks a day. What a burst is was settled
  before any figure of these sites was seen.
- **Synthetic sites, clean captures**: the same days, attacks in the test part alone.
- **UNSW-NB15 as plain flows**: the first 20,000 raw records as `conn@1`, attacks in all of it.

*Left out* of fit, val and cal is: nothing; the excess of *bursts*, from one source or to one destination in a
minute (the default); the *oddest* 1 % of the rest, as a first fit finds them (`--contamination 0.01`), *also
of cal* with `--trim-cal`; or the attacks *by their labels*, which nobody has: the best to hope for."""

DAYS = 3
ALPHA = 0.01
BY_LABELS = "attacks, by their labels"
OTHERS = ("bn", "knn", "isolation_forest", "robust_z")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to learn."""

    left_out: str = "bursts"
    trimming: Trimming | None = field(default_factory=Trimming)  # None: attacks by their labels
    detector: str = "beaa"
    contexts: str | None = None

    @property
    def name(self) -> str:
        """What is printed of the model."""
        return f"{self.detector}, one for each transport" if self.contexts else self.detector


NOTHING = Way(left_out="nothing", trimming=Trimming(cut_bursts=False))
ODD = Way(left_out="bursts, the oddest 1 %", trimming=Trimming(contamination=0.01))
BEST = Way(left_out=BY_LABELS, trimming=None)
WAYS = (
    NOTHING,
    Way(left_out="the oddest 1 %", trimming=Trimming(cut_bursts=False, contamination=0.01)),
    Way(),
    ODD,
    Way(left_out="bursts, the oddest 1 %, also of cal", trimming=Trimming(contamination=0.01, trim_cal=True)),
    BEST,
    Way(contexts="transport"),
    Way(left_out=BY_LABELS, trimming=None, contexts="transport"),
    *(Way(detector=detector) for detector in OTHERS),
    *(Way(left_out=BY_LABELS, trimming=None, detector=detector) for detector in OTHERS),
)


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Features of some days, and what only the judgement sees."""

    data: Captured
    labels: npt.NDArray[np.object_]  # (n,): "normal", or the kind of attack

    @classmethod
    def of(cls, rows: pa.RecordBatch, labels: npt.NDArray[np.object_]) -> "Capture":
        """Return what `weir capture` would have kept of some rows in the order of their log."""
        chosen = feature_set("conn")
        data = Captured(
            name="captured",
            feature_set=chosen,
            features=rows,
            labels=np.full(rows.num_rows, "normal", dtype=np.object_),
            times=times_us(rows),
            test=None,
            order="time",
            gap_s=float(chosen.windows.widths_s[-1]) if chosen.windows else 0.0,
            fingerprint="",
            notes=(),
            n_rejected=0,
            lanes=np.zeros(rows.num_rows, dtype=np.int64),
        )
        return cls(data=data, labels=labels)

    @property
    def attacks(self) -> npt.NDArray[np.bool_]:
        """Which rows are attacks, (n,)."""
        found: npt.NDArray[np.bool_] = self.labels != "normal"
        return found

    def by_labels(self, split: Split) -> Split:
        """Return a split whose parts to learn from hold no attacks."""
        fit_rows, val, cal = (rows[~self.attacks[rows]] for rows in (split.fit, split.val, split.cal))
        return Split(fit=fit_rows, val=val, cal=cal, test=split.test, protocol=split.protocol)


@cache
def site(seed: int) -> Capture:
    """Return some days of a synthetic site."""
    tables, labels = [], list[str]()
    for day in range(DAYS):
        source = SyntheticSource(seed=seed, start=START + timedelta(days=day))
        made = offline_features(feature_set("conn"), (chunk.rows for chunk in source.chunks()))
        tables.append(made.features)
        labels += made.labels.to_pylist()
    (rows,) = pa.concat_tables(tables).combine_chunks().to_batches()
    return Capture.of(rows, np.array(labels, dtype=np.object_))


def clean_site(seed: int) -> Capture:
    """Return such days with attacks in the test part alone."""
    capture = site(seed)
    n_rows, test = capture.labels.size, capture.data.split(seed=seed).test
    kept = np.flatnonzero(~capture.attacks | np.isin(np.arange(n_rows), test))
    return Capture.of(capture.data.features.take(pa.array(kept)), capture.labels[kept])


@cache
def unsw() -> Capture:
    """Return public flows in which normal traffic and attacks are mixed."""
    found = load_dataset("unsw-conn")
    return Capture.of(found.features, found.labels)


def learned(capture: Capture, way: Way, seed: int) -> tuple[Split, Evaluation]:
    """Learn in one way, and judge the test part."""
    data = capture.data
    plan = Plan(detector=way.detector, seed=seed, contexts=way.contexts, max_rows=50_000)
    if way.trimming is None:
        split = capture.by_labels(data.split(seed=seed))
        with draft(fit(data, plan, split=split), data) as bundle:
            return split, evaluate(bundle, data, split.test, alphas=())
    with TemporaryDirectory() as folder:
        found = learn(data, plan, way.trimming, models_dir=Path(folder), name="m")
        split = found.trimmed.split
        return split, evaluate(found.bundle, data, split.test, alphas=())


@dataclass(frozen=True, kw_only=True)
class Line:
    """The figures of one way to learn from one capture."""

    figures: tuple[float, ...]
    flows: Counter[str]  # of each kind of attack in the test part
    flagged: Counter[str]  # and those that are flagged

    @classmethod
    def of(cls, capture: Capture, way: Way, seed: int) -> "Line":
        """Learn, and judge."""
        split, found = learned(capture, way, seed)
        labels, attack = capture.labels[split.test], capture.attacks[split.test]
        flagged = found.p_values <= ALPHA
        figures = (
            float(100 * capture.attacks[split.fit].mean()),
            roc_auc(attack, found.scores),
            average_precision(attack, found.scores),
            float(flagged[~attack].mean() / ALPHA),
            float(100 * flagged[attack].mean()),
        )
        return cls(figures=figures, flows=Counter(labels[attack]), flagged=Counter(labels[flagged & attack]))


def compared(
    where: str, captured: Callable[[int], Capture], ways: Sequence[Way], seeds: range
) -> tuple[Table, Table]:
    """Compare ways to learn."""
    lines: dict[Way, list[Line]] = {}
    for way in ways:
        lines[way] = [Line.of(captured(seed), way, seed) for seed in seeds]
        print(where, way.name, way.left_out, lines[way], file=sys.stderr, flush=True)
    kinds = sum((line.flows for line in lines[ways[0]]), Counter[str]())
    n_test = sum(captured(seed).data.split(seed=seed).test.size for seed in seeds)
    ranked = Table(
        title=f"{where}, by what was left out of learning",
        columns=["detector", "left out", "attacks among the rows to fit on, %", "ROC-AUC", "AP",
                 "observed / stated", "attack flows flagged, %"],
        rows=[
            [way.name, way.left_out, *map(spread, zip(*(line.figures for line in of), strict=True))]
            for way, of in lines.items()
        ],
        note=f"Random: ROC-AUC 0.5, AP {kinds.total() / n_test:.3f}.",
    )  # fmt: skip
    found = {way: sum((line.flagged for line in of), Counter[str]()) for way, of in lines.items()}
    shown = [way for way in lines if way.detector == "beaa" and not way.contexts]
    by_kind = Table(
        title=f"{where}, flagged flows of each attack (beaa)",
        columns=["attack", "flows", *(f"left out: {way.left_out}" for way in shown)],
        rows=[[kind, kinds[kind], *(found[way][kind] for way in shown)] for kind in sorted(kinds)],
        note="Sums over the seeds.",
    )
    return ranked, by_kind


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__).parse_args()
    seeds = range(11, 12 if args.short else 16)
    ways = (NOTHING, Way(), BEST) if args.short else WAYS
    tables = [*compared("Synthetic sites", site, ways, seeds)]
    tables += compared("Synthetic sites, clean captures", clean_site, (NOTHING, Way(), ODD), seeds)
    if DATA_VARIABLE in os.environ:
        tables += compared("UNSW-NB15 as plain flows", lambda _: unsw(), ways, seeds)
    else:
        print(f"UNSW-NB15 not measured: {DATA_VARIABLE} must name the folder of the public datasets")
    Report(
        name="unlabelled",
        title="What is learned from captures that hold attacks",
        protocol=PLAN.format(seeds=len(seeds)),
        tables=tables,
    ).finish(args)


if __name__ == "__main__":
    main()
