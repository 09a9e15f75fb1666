"""What is found in networks without labels: `python tests/bench/bench_network.py --help`."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# As in a worker; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rig import Report, Table, arguments, spread

from connectors.kinds import open_file
from connectors.records import CONN, TIME
from connectors.sources import DATA_VARIABLE, Generated, open_source
from pipeline.features.arrays import times_us
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import offline_features
from pipeline.history import Window
from training.datasets import Dataset, load_dataset
from training.metrics import average_precision, roc_auc
from training.train import Fitted, Plan, fit, flows_per_hour

PLAN = """Models are fitted and calibrated on normal traffic alone; no label chooses anything. {seeds} seeds.

- **UNSW-NB15 as plain flows**: the first 20,000 raw records as `conn@1`, split by time (fit 0.6, val 0.1,
  cal 0.1 of the normal flows, 10 s left out between; test: the rest and all attacks). *without windows*: the
  features that look at nothing but the flow itself. The random level of average precision is the share of
  attacks in the test part.
- **A synthetic day**: sites of seeds 201 to {sites}: four days of normal traffic to learn from and to
  calibrate on, then a day with seven attacks. The features were settled on sites 101 to 104. The budget is
  5 alarms an hour, turned into alpha with the flow rate of the training days; an alarm is a flagged flow,
  before grouping.
- **One model, or one for each transport**: UNSW-NB15 as above, the first three synthetic sites; BEAA, at most
  50,000 rows to fit on.
- **Attack captures**: each capture of an attack is shifted to where the test part of some normal traffic
  begins, and merged with it by time. The normal traffic is (1, 2) a benign capture, whose first half and
  all other benign captures are learnt from, or (3) the normal flows of UNSW-NB15, the first 70 % of them
  learnt from. The latest 30 % of what is learnt from calibrates. *found*: flagged flows of the attack, for
  each seed; *false*: flagged normal flows."""

DETECTORS = ("beaa", "bn", "knn", "isolation_forest", "robust_z")
DAYS = 4
BUDGET_PER_H = 5.0
RATES = (0.01, 0.001)
HOSTS = ("benign_skype.pcap", "benign_1kxun_mixed.pcap")
APART_US = 120_000_000
_WINDOW = re.compile(r"_\d+s$")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Scores and p-values of some rows."""

    scores: npt.NDArray[np.float64]
    p_values: npt.NDArray[np.float64]


def judged(fitted: Fitted, data: Dataset, rows: npt.NDArray[np.int64]) -> Judged:
    """Return what a model says of rows, in their order."""
    scores = Window.of(fitted.detector, fitted.normaliser, data.take(rows)).scores
    return Judged(scores=scores, p_values=fitted.calibration.p_value(scores))


def without_windows(data: Dataset) -> Dataset:
    """Return a dataset with the features of the flow itself alone."""
    kept = tuple(f for f in data.feature_set.features if not _WINDOW.search(f.name))
    plain = replace(data.feature_set, name="conn-plain", features=kept)
    return replace(data, feature_set=plain, features=data.features.select(plain.schema.names))


def unsw(seeds: range, detectors: Sequence[str]) -> Table:
    """Rank UNSW-NB15 with and without windows."""
    whole = load_dataset("unsw-conn")
    lines = []
    for detector in detectors:
        line: list[str | float] = [detector]
        for data in (whole, without_windows(whole)):
            found = []
            for seed in seeds:
                fitted = fit(data, Plan(detector=detector, seed=seed))
                attack = ~data.normal[fitted.split.test]
                scores = judged(fitted, data, fitted.split.test).scores
                found.append((roc_auc(attack, scores), average_precision(attack, scores)))
            line += [spread([one[i] for one in found]) for i in (0, 1)]
        print(line, file=sys.stderr, flush=True)
        lines.append(line)
    share = float((~whole.normal[whole.split(seed=0).test]).mean())
    columns = ["detector", "ROC-AUC", "AP", "ROC-AUC without windows", "AP without windows"]
    note = f"Random: ROC-AUC 0.5, AP {share:.3f}. Mean and standard deviation over the seeds."
    return Table(title="UNSW-NB15 as plain flows", columns=columns, rows=lines, note=note)


def synthetic(sites: range) -> list[Table]:
    """Watch a day of each site with a model of its normal days, within a budget."""
    kinds: dict[str, list[tuple[int, int]]] = {}
    budgets = []
    for site in sites:
        data = load_dataset("synthetic", generated=Generated(seed=site, days=DAYS))
        fitted = fit(data, Plan(seed=site, max_rows=50_000))
        rows = fitted.split.test
        alpha = BUDGET_PER_H / ((data.features.num_rows - rows.size) / DAYS / 24)
        flagged = judged(fitted, data, rows).p_values <= alpha
        normal, labels = data.normal[rows], data.labels[rows]
        false_per_h = float(np.count_nonzero(flagged & normal)) / 24
        budgets.append(
            [str(site), f"{alpha:.2g}", normal.sum() / 24, false_per_h, false_per_h / BUDGET_PER_H]
        )
        for kind in sorted(set(labels) - {"normal"}):
            of_kind = labels == kind
            kinds.setdefault(kind, []).append((int(flagged[of_kind].sum()), int(of_kind.sum())))
        print(budgets[-1], file=sys.stderr, flush=True)
    found = [
        [kind, f"{sum(n > 0 for n, _ in days)} of {len(days)}", *np.sum(days, axis=0).tolist()]
        for kind, days in kinds.items()
    ]
    return [
        Table(
            title="Attacks on synthetic sites",
            columns=["attack", "days found", "flows flagged", "flows"],
            rows=found,
        ),
        Table(
            title=f"False alarms of synthetic sites, budget {BUDGET_PER_H:g} an hour",
            columns=["site", "alpha", "normal flows/h", "false alarms/h", "of the budget"],
            rows=budgets,
        ),
    ]


def in_contexts(seeds: range, sites: range) -> Table:
    """Compare one model with one for each transport protocol."""
    unsw_flows = load_dataset("unsw-conn")
    of_data = {"UNSW-NB15": [(unsw_flows, seed) for seed in seeds]}
    of_data["synthetic"] = [
        (load_dataset("synthetic", generated=Generated(seed=site, days=DAYS)), site) for site in sites[:3]
    ]
    lines = []
    for name, sets in of_data.items():
        for contexts in (None, "transport"):
            found = [
                weighed(data, Plan(seed=seed, max_rows=50_000, contexts=contexts)) for data, seed in sets
            ]
            line = [f"{name}, {'one for each transport' if contexts else 'one model'}"]
            line += [spread(values) for values in zip(*found, strict=True)]
            print(line, file=sys.stderr, flush=True)
            lines.append(line)
    ratios = [f"observed / stated at {alpha:g}" for alpha in RATES]
    return Table(
        title="One model, or one for each transport",
        columns=["model", "ROC-AUC", "AP", *ratios, "attack kinds found", "score, ms", "explain, ms"],
        rows=lines,
        note="Kinds of which a flow is flagged at 5 alarms an hour; milliseconds for 4,000 rows, 100 rows.",
    )


def weighed(data: Dataset, plan: Plan) -> list[float]:
    """Return the figures of one line of `in_contexts`."""
    fitted = fit(data, plan)
    rows = fitted.split.test
    found, normal, labels = judged(fitted, data, rows), data.normal[rows], data.labels[rows]
    ratios = [float((found.p_values[normal] <= alpha).mean()) / alpha for alpha in RATES]
    rate = flows_per_hour(data, fitted.split) or 0.0
    kinds = set(labels[(found.p_values <= BUDGET_PER_H / rate) & ~normal])
    print(plan.contexts, plan.seed, ratios, sorted(kinds), file=sys.stderr, flush=True)
    window = Window.of(fitted.detector, fitted.normaliser, data.take(rows[:4000]))
    return [
        roc_auc(~normal, found.scores),
        average_precision(~normal, found.scores),
        *ratios,
        float(len(kinds)),
        milliseconds(lambda: window.scores),
        milliseconds(lambda: window.explain(np.arange(100))),
    ]


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long the fastest of twenty goes takes."""
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def flows_of(path: Path) -> pa.Table:
    """Return the flows of a capture, in order of event time."""
    source = open_file(path, sensor="net")
    table = pa.Table.from_batches([chunk.rows for chunk in source.chunks()], CONN.schema)
    return table.sort_by("event_time")


def shifted(flows: pa.Table, begin_us: int) -> pa.Table:
    """Return flows whose first one ends at `begin_us`."""
    times = flows.column("event_time").cast(pa.int64())
    at = flows.schema.get_field_index("event_time")
    moved = pc.add(times, begin_us - pc.min(times).as_py()).cast(TIME)
    return flows.set_column(at, flows.schema.field(at), moved)


def labelled(flows: pa.Table, label: str) -> pa.Table:
    """Return flows with a label."""
    at = flows.schema.get_field_index("label")
    return flows.set_column(at, flows.schema.field(at), pa.repeat(label, flows.num_rows))


def in_a_row(captures: Sequence[pa.Table]) -> pa.Table:
    """Return the flows of captures as if each had begun two minutes after the one before."""
    parts, end_us = [], 0
    for flows in captures:
        parts.append(shifted(flows, end_us + APART_US))
        end_us = pc.max(parts[-1].column("event_time")).value
    return pa.concat_tables(parts)


def mixed(background: pa.Table, n_learnt: int, attack: pa.Table) -> Dataset:
    """Return normal flows whose first ones are to be learnt from, with an attack merged into the others."""
    background = labelled(background, "normal")
    begin_us = background.column("event_time")[n_learnt].value
    tail = pa.concat_tables([background.slice(n_learnt), labelled(shifted(attack, begin_us), "attack")])
    rows = pa.concat_tables([background.slice(0, n_learnt), tail.sort_by("event_time")])
    chosen = feature_set("conn")
    made = offline_features(chosen, rows.combine_chunks().to_batches())
    features = made.features.combine_chunks().to_batches()[0]
    return Dataset(
        name="captures",
        feature_set=chosen,
        features=features,
        labels=np.asarray(made.labels.to_numpy(), dtype=np.object_),
        times=times_us(features),
        test=np.arange(features.num_rows) >= n_learnt,
        order="rows",
        gap_s=0.0,
        fingerprint="",
        notes=(),
        n_rejected=made.n_bad,
    )


def backgrounds(folder: Path) -> Iterator[tuple[str, pa.Table, int, float]]:
    """Yield normal traffic: its name, its flows, how many are learnt from, and alpha."""
    benign = {path.name: flows_of(path) for path in sorted(folder.glob("benign_*.pcap"))}
    for host in HOSTS:
        flows = in_a_row([*(flows for name, flows in benign.items() if name != host), benign[host]])
        yield host, flows, flows.num_rows - benign[host].num_rows // 2, 0.01
    chunks = open_source("unsw-conn", folder.parent).chunks()
    unsw_flows = pa.Table.from_batches([chunk.rows for chunk in chunks], CONN.schema)
    normal = unsw_flows.filter(pc.equal(unsw_flows.column("label"), "normal")).sort_by("event_time")
    yield "UNSW-NB15 (normal flows)", normal, int(0.7 * normal.num_rows), 0.001


def captures(folder: Path, seeds: range, detectors: Sequence[str]) -> Iterator[Table]:
    """Look for each attack capture in each background."""
    attacks = {path.stem: flows_of(path) for path in sorted(folder.glob("attack_*.pcap"))}
    for where, background, n_learnt, alpha in backgrounds(folder):
        lines = []
        for name, attack in attacks.items():
            data = mixed(background, n_learnt, attack)
            line: list[str | float] = [name, attack.num_rows]
            for detector in detectors:
                counts = [found_in(data, Plan(detector=detector, seed=seed), alpha) for seed in seeds]
                line += [", ".join(str(found) for found, _ in counts), float(np.mean([n for _, n in counts]))]
            print(where, line, file=sys.stderr, flush=True)
            lines.append(line)
        columns = ["attack", "flows", *(f"{d} {what}" for d in detectors for what in ("found", "false"))]
        n_tested = background.num_rows - n_learnt
        note = (
            f"{n_learnt:,} flows to learn from, {n_tested:,} normal ones tested: at alpha {alpha:g}, "
            f"{alpha * n_tested:.1f} false alarms are stated."
        )
        yield Table(title=f"Attack captures in {where}", columns=columns, rows=lines, note=note)


def found_in(data: Dataset, plan: Plan, alpha: float) -> tuple[int, int]:
    """Return how many flows of the attack are flagged, and how many of the host."""
    fitted = fit(data, plan)
    rows = np.flatnonzero(data.test)
    flagged = judged(fitted, data, rows).p_values <= alpha
    normal = data.normal[rows]
    return int(np.count_nonzero(flagged & ~normal)), int(np.count_nonzero(flagged & normal))


def main() -> None:
    """Measure and report."""
    args = arguments(__doc__).parse_args()
    if DATA_VARIABLE not in os.environ:
        print(f"not measured: {DATA_VARIABLE} must name the folder of the public datasets")
        return
    folder = Path(os.environ[DATA_VARIABLE])
    seeds, sites = range(1 if args.short else 3), range(201, 202 if args.short else 206)
    detectors = DETECTORS[:1] if args.short else DETECTORS
    tables = [
        *captures(folder / "pcaps", seeds, [d for d in detectors if d in ("beaa", "knn", "robust_z")]),
        unsw(seeds, detectors),
        *synthetic(sites),
        in_contexts(seeds, sites),
    ]
    Report(
        name="network",
        title="What is found in networks without labels",
        protocol=PLAN.format(seeds=len(seeds), sites=sites[-1]),
        tables=tables,
    ).finish(args)


if __name__ == "__main__":
    main()
