"""One round: a stream of real processes, its faults, and what became of every record."""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import kafka.errors
from cluster import Cluster
from datasets import TRAFFIC, Traffic
from disturbances import Disturber
from faults import Fault, draw
from installation import Installation, is_settled
from ledger import Books, Ledger, Message, Place
from members import Member
from poison import EXPLAINED, REASONS, environment
from progress import longest_still_s
from reference import References, undisturbed
from verifier import Expected, Lost, Outcome, differences, log_keys, outcome, problems

from connectors.errors import ConnectorError

SETTLE_S = 120.0
"""How long after the last fault everything must be done: the watchdog's 10 s several times over."""
STILL_S = 90.0
"""How long a lane with work may stand still while faults come and go."""
START_S = 90.0
TICK_S = 0.05


Log = list[tuple[Place, Message]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a round will be; follows from the seed and its number."""

    number: int
    seed: int
    kind: str  # plain, poison, segments
    inline: bool
    grouping: bool
    traffic: str
    n_faults: int
    span_s: float
    without: frozenset[str] = frozenset()  # kinds of faults

    def faults(self, impossible: frozenset[str]) -> list[Fault]:
        """Return its faults in order of time."""
        rng = random.Random(f"{self.seed}/{self.number}/faults")
        extra = [self.kind] if self.kind != "plain" else []
        return draw(rng, n=self.n_faults, span_s=self.span_s, without=impossible | self.without, extra=extra)

    @property
    def told(self) -> str:
        """The plan in a few words."""
        mode = "inline" if self.inline else "two hops"
        groups = "groups" if self.grouping else "every flow"
        return f"{self.traffic}, {mode}, {groups}" + (f", {self.kind}" if self.kind != "plain" else "")


@dataclass(kw_only=True)
class Result:
    """What a round came to."""

    number: int
    told: str
    faults: dict[str, int]
    flows: int = 0
    alerts: int = 0
    dead: int = 0
    lost: int = 0  # records in offset ranges that were cut and reported
    starts: int = 0
    repeats: dict[str, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)  # exit code -> processes
    longest_still_s: float = 0.0
    settle_s: float = 0.0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Round:
    """Runs a plan on a cluster.

    Parameters
    ----------
    plan : Plan
        What to do.
    cluster : Cluster
        The broker.
    folder : Path
        New; for settings, state and logs.
    models : Path
        Where trained models are.
    references : References
        Outcomes of undisturbed runs so far.
    """

    def __init__(
        self, plan: Plan, cluster: Cluster, folder: Path, models: Path, references: References
    ) -> None:
        self.plan, self.cluster, self.folder, self.models = plan, cluster, folder, models
        self.references = references
        self.traffic: Traffic = TRAFFIC[plan.traffic]
        self.env = environment(models) if plan.kind == "poison" else {}
        self.explained = EXPLAINED if plan.kind == "poison" else frozenset[int]()
        self.installation = self._installation("chaos", inline=plan.inline)
        self.faults = plan.faults(cluster.impossible)
        self.result = Result(
            number=plan.number, told=plan.told, faults=dict(Counter(fault.kind for fault in self.faults))
        )

    def _installation(self, what: str, *, inline: bool = False) -> Installation:
        """Return a fresh one; the undisturbed runs do not go through the proxy."""
        public = self.cluster.public if what == "chaos" else self.cluster.direct
        prefix = f"{what}-{self.plan.seed}-{self.plan.number}-{random.SystemRandom().randrange(16**6):06x}"
        grouping = {"enabled": self.plan.grouping, "bucket_s": 20.0}
        return Installation(
            self.cluster.direct, public, self.folder / what, prefix, self.traffic, self.models,
            inline=inline, grouping=grouping,
        )  # fmt: skip

    def run(self) -> Result:
        """Return what it came to; problems are in there, never raised."""
        begun = time.monotonic()
        members = self._workers()
        try:
            with self.installation.ledger() as ledger:
                disturber = Disturber(self.cluster, self.installation, ledger, members, self._joiner)
                try:
                    self._disturbed(disturber, ledger)
                finally:
                    disturber.heal_all()
                    self._end(disturber.members)
                self._judge(ledger.look(), disturber)
        except (TimeoutError, ConnectorError, kafka.errors.KafkaError) as error:
            self.result.problems.append(f"round: {type(error).__name__}: {error}")
        self.result.seconds = time.monotonic() - begun
        return self.result

    def _workers(self) -> list[Member]:
        install = self.installation
        # One worker of the last stage: what it does is little. The others have two.
        names = [(stage, f"{stage}-{i}") for stage in install.stages for i in range(1 + (stage != "alerts"))]
        return [install.worker(stage, name, self.env, self.explained) for stage, name in names]

    def _connectors(self) -> list[Member]:
        speed = self.traffic.span_s() / (self.plan.span_s * 0.95)
        return [self.installation.connector(sensor, speed) for sensor in self.traffic.sensors]

    def _joiner(self, stage: str, number: int) -> Member:
        return self.installation.worker(stage, f"{stage}-joiner-{number}", self.env, self.explained)

    def _disturbed(self, disturber: Disturber, ledger: Ledger) -> None:
        self._wait(
            disturber, lambda: all(m.has_lanes for m in disturber.members), START_S, "not all workers up"
        )
        disturber.members += self._connectors()
        self._wait(disturber, lambda: bool(ledger.books.messages["flows"]), START_S, "no first flow")
        begun = time.monotonic()
        waiting = list(self.faults)
        while waiting or disturber.is_busy:
            disturber.tend()
            if disturber.is_cutting or (waiting and waiting[0].kind == "segments" and disturber.is_busy):
                begun += TICK_S  # the log is cut in fair weather, alone; the others come later by as much
            elif waiting and time.monotonic() - begun >= waiting[0].at_s:
                disturber.begin(waiting.pop(0))
            time.sleep(TICK_S)
        healed = time.monotonic()
        self._wait(disturber, lambda: self._settled(disturber, ledger), SETTLE_S, "not settled")
        self.result.settle_s = time.monotonic() - healed

    def _wait(self, disturber: Disturber, done: Callable[[], bool], limit_s: float, what: str) -> None:
        deadline = time.monotonic() + limit_s
        while not done():
            disturber.tend()
            if time.monotonic() > deadline:
                raise TimeoutError(f"progress: {what} within {limit_s:g} s; {disturber.who()}")
            time.sleep(TICK_S * 4)

    def _settled(self, disturber: Disturber, ledger: Ledger) -> bool:
        if not all(member.is_done for member in disturber.members if member.role == "connector"):
            return False
        behind = ledger.lag(self.installation.groups[-1], "detections")
        return is_settled(ledger.books, behind, disturber.lost())

    @staticmethod
    def _end(members: list[Member]) -> None:
        for member in members:
            member.end()

    def _judge(self, books: Books, disturber: Disturber) -> None:
        result = self.result
        expected = Expected(
            sources={self.traffic.source(s).source_id: self.traffic.records for s in self.traffic.sensors},
            deleted=disturber.deleted,
            lost=tuple(Lost(partition=p, first=a, last=b) for p, a, b in disturber.lost_spans()),
            reasons=REASONS if self.plan.kind == "poison" else frozenset(),
        )
        result.problems += [p for member in disturber.members for p in member.problems]
        if self.plan.kind == "segments" and not disturber.deleted:
            result.problems.append("fault: no lane had enough unread flows for its log to be cut")
        result.problems += problems(books, expected)
        result.longest_still_s = longest_still_s(books)
        if result.longest_still_s > STILL_S + disturber.kept_away_s:
            result.problems.append(
                f"progress: a lane with work stood still for {result.longest_still_s:.0f} s"
            )
        self._count(books, disturber, expected)
        result.problems += self._compared(books, disturber)

    def _compared(self, books: Books, disturber: Disturber) -> list[str]:
        records, key = log_keys(books)
        found = []
        dataset = f"{self.traffic.name}-{self.traffic.records}"
        if records != self.references.records(dataset, records):
            found.append("record: the flows differ from those that this dataset gave before, or their order")
        seen, reference = outcome(books), self._reference(books, key, disturber)
        if disturber.deleted:  # behind the cut the reference is a lane that begins
            seen, reference = replace(seen, drifts={}), replace(reference, drifts={})
        return found + differences(seen, reference)

    def _reference(self, books: Books, key: str, disturber: Disturber) -> Outcome:
        """Return what an undisturbed run makes of the same log; of a cut one, of each of its parts."""
        if disturber.deleted:
            return self._undisturbed(_parts(books, disturber.deleted, disturber.lost()))
        # Inline a message that dies takes its rows with it; in two hops the features have seen them.
        inline = self.plan.inline and self.plan.kind == "poison"
        groups = "groups" if self.plan.grouping else "flows"
        name = f"{self.traffic.name}-{groups}-{'inline-' if inline else ''}{key}"
        found = self.references.get(name)
        if found is None:
            found = self._undisturbed([books.of("flows")], inline=inline)
            self.references.put(name, found)
        return found

    def _undisturbed(self, logs: Sequence[Log], *, inline: bool = False) -> Outcome:
        """Return what undisturbed runs make of some logs, all together."""
        alerts: dict[str, str] = {}
        drifts: dict[str, str] = {}
        verdicts: dict[str, str] = {}
        for index, log in enumerate(filter(None, logs)):
            install = self._installation(f"calm{index}", inline=inline)
            got = undisturbed(install, log, self.env, self.explained)
            alerts |= got.alerts
            drifts |= got.drifts
            verdicts |= got.verdicts
            install.drop()
        return Outcome(alerts=alerts, drifts=drifts, verdicts=verdicts)

    def _count(self, books: Books, disturber: Disturber, expected: Expected) -> None:
        result, lost = self.result, expected.lost_places
        rows = {place: m.number("weir-rows", 0) for place, m in books.messages["flows"].items()}
        result.flows, result.lost = sum(rows.values()), sum(rows[place] for place in lost if place in rows)
        letters = {m.headers["weir-id"]: m.number("weir-rows") for _, m in books.of("dead-letters")}
        result.dead = sum(letters.values())
        result.alerts = len({m.headers["weir-id"] for _, m in books.of("alerts")})
        result.repeats = {
            "detections": len(books.messages["detections"]) - len(books.answered()),
            "alerts": len(books.messages["alerts"]) - result.alerts,
        }
        result.starts = sum(member.starts for member in disturber.members)
        codes = Counter(str(code) for member in disturber.members for code in member.codes)
        result.codes = dict(sorted(codes.items()))


def _parts(books: Books, deleted: Mapping[int, int], lost: Collection[Place]) -> list[Log]:
    """Return the log before what was lost, and the log after it; a lane that lost nothing comes later."""
    cut = {lane: min((at for p, at in lost if p == lane), default=0) for lane in deleted}
    before: Log = []
    after: Log = []
    for place, message in books.of("flows"):
        if place not in lost:
            (before if place[1] < cut.get(place[0], 0) else after).append((place, message))
    return [before, after]
