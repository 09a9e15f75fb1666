"""Rounds of faults on real streams until there were enough; whatever is lost or differs is told.

python tests/chaos/run.py --faults 1000 --seed 1
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

# One BLAS thread, as in a worker; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import poison
from cluster import Cluster, kafka_cluster, local_cluster
from datasets import DATA, TRAFFIC
from faults import WEIGHTS, told
from installation import HAS_INLINE
from pages import write_page
from reference import References
from rounds import SETTLE_S, STILL_S, Plan, Result, Round

FAULTS = 60
"""In a round."""
PACE_S = 1.7
"""Seconds from one fault to the next, on average."""


def main() -> int:
    """Run what is missing; return 1 if anything was lost or differs."""
    args = _arguments().parse_args()
    state = args.state or Path(".chaos") / str(args.seed)
    state.mkdir(parents=True, exist_ok=True)
    kept = state / "rounds.jsonl"
    results = [Result(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []
    if args.round is not None:
        return _sum_up(list(_run(args, [_repeated(args, results)], state)))
    for result in _run(args, _plans(args, results), state):
        results.append(result)
        with kept.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
    if args.report:
        write_page(args.report, results, args.seed, settle_s=SETTLE_S, still_s=STILL_S)
    return _sum_up(results)


def _run(args: argparse.Namespace, plans: Iterable[Plan], state: Path) -> Iterator[Result]:
    """Run rounds on a broker of their own, which starts with the first."""
    with ExitStack() as stack:
        cluster: Cluster | None = None
        for plan in plans:
            if cluster is None:
                scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-chaos-")))
                local = args.broker == "local"
                cluster = stack.enter_context(local_cluster() if local else kafka_cluster(scratch / "kafka"))
            yield _round(plan, cluster, scratch, state)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--faults", type=int, default=1000, help="how many in all; earlier runs count")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    parser.add_argument("--mode", choices=["two-hop", "inline", "both"], default="both")
    parser.add_argument("--broker", choices=["kafka", "local"], default="kafka")
    parser.add_argument("--state", type=Path, help="folder for results and models (default: .chaos/SEED)")
    parser.add_argument("--round", type=int, help="only this one, again; it does not count")
    parser.add_argument("--traffic", choices=sorted(TRAFFIC), help="only this")
    parser.add_argument("--kind", choices=["plain", "poison", "segments"], help="only this kind of round")
    parser.add_argument("--only", choices=sorted(WEIGHTS), nargs="+", default=[], help="only these faults")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page about it")
    return parser


def _repeated(args: argparse.Namespace, results: list[Result]) -> Plan:
    """Return the one round that is asked for, with as many faults as it had."""
    known = [sum(result.faults.values()) for result in results if result.number == args.round]
    return _plan(args, args.round, known[0] if known else FAULTS)


def _plans(args: argparse.Namespace, results: list[Result]) -> Iterator[Plan]:
    """Yield rounds until there were enough faults; what has come of each is in `results` by then."""
    while (left := args.faults - sum(sum(result.faults.values()) for result in results)) > 0:
        number = max((result.number for result in results), default=0) + 1
        yield _plan(args, number, min(FAULTS, left))


def _plan(args: argparse.Namespace, number: int, n_faults: int) -> Plan:
    """Return what a round is; it follows from the seed and its number."""
    rng = random.Random(f"{args.seed}/{number}")
    kind = args.kind or ("poison" if number % 5 == 4 else "segments" if number % 5 == 2 else "plain")
    names = ["synthetic", "synthetic", *(["unsw-conn", "nsl-kdd"] if DATA.is_dir() else [])]
    traffic = args.traffic or {"poison": "fatal", "segments": "synthetic"}.get(kind) or rng.choice(names)
    inline = {"two-hop": False, "inline": True, "both": number % 2 == 0}[args.mode]
    return Plan(
        number=number,
        seed=args.seed,
        kind=kind,
        inline=inline and HAS_INLINE,
        # Where the log is cut, its two parts have groups of their own.
        grouping=kind != "segments" and rng.random() < 0.7,
        traffic=traffic,
        n_faults=n_faults,
        without=frozenset(WEIGHTS) - set(args.only) if args.only else frozenset(),
        span_s=n_faults * PACE_S,
    )


def _round(plan: Plan, cluster: Cluster, scratch: Path, state: Path) -> Result:
    """Run a round and tell of it in a line; its folder is kept if something was wrong."""
    models = state / "models"
    poison.install(models)
    TRAFFIC[plan.traffic].train(models)
    folder = scratch / f"round-{plan.number}"
    folder.mkdir()
    round_ = Round(plan, cluster, folder, models, References(state / "references"))
    result = round_.run()
    print(_line(result, plan.seed), flush=True)
    if result.problems:
        kept = state / f"round-{plan.number}-{time.strftime('%H%M%S')}"
        shutil.copytree(folder, kept)
        for log in scratch.glob("kafka/broker.log"):
            shutil.copy(log, kept)
        print("\n".join([*(f"  {text}" for text in result.problems), f"  logs: {kept}"]), flush=True)
    else:
        round_.installation.drop()
    shutil.rmtree(folder)
    return result


def _line(result: Result, seed: int) -> str:
    faults = told([kind for kind, n in result.faults.items() for _ in range(n)])
    return (
        f"round {result.number} (seed {seed}, {result.told}): {sum(result.faults.values())} faults "
        f"({faults}), {result.starts} starts, exit codes {result.codes}, {result.flows:,} flows, "
        f"{result.alerts:,} alerts, {result.dead} dead, {result.lost} lost with the log, longest stillness "
        f"{result.longest_still_s:.0f} s, settled in {result.settle_s:.0f} s, {result.seconds:.0f} s: "
        f"{'FAILED' if result.problems else 'nothing lost'}"
    )


def _sum_up(results: list[Result]) -> int:
    bad = [result.number for result in results if result.problems]
    n_faults = sum(sum(result.faults.values()) for result in results)
    flows, alerts = sum(result.flows for result in results), sum(result.alerts for result in results)
    verdict = (
        f"rounds {bad} lost or changed something"
        if bad
        else "nothing lost, no alert under a second id or body"
    )
    print(f"{len(results)} rounds, {n_faults} faults, {flows:,} flows, {alerts:,} alerts: {verdict}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
