"""The faults, as they are done to a running stream and undone."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster import Cluster
from faults import Fault
from installation import Installation
from kafka import KafkaAdminClient, TopicPartition
from ledger import Ledger, Place
from members import Member, pick
from poison import fatal_message, victim
from proxy import Weather

PROXY_WEATHER: dict[str, Weather] = {
    "net-hold": "hold",
    "net-drop": "drop",
    "net-delay": "delay",
    "net-reset": "reset",
}

_LOST = re.compile(r"flows\.v1/(\d+): offsets (\d+) to (\d+) left the log")
AFTERMATH_S = 30.0
"""How long after an outage a client may find out that it cannot go on."""
LATE_S = 5.0
"""How long answers of killed readers may still be on their way to the broker."""
BEHIND = 12
"""Flows messages that must wait unread in a lane before its log is cut."""
PATIENCE_S = 40.0
"""How long they are waited for; half as long if one lane has enough of them."""


class Disturber:
    """Does faults to the processes, the network and the broker, and heals them when it is time.

    Parameters
    ----------
    joiner : callable
        Returns a further worker of a stage, by its running number.
    """

    def __init__(
        self,
        cluster: Cluster,
        installation: Installation,
        ledger: Ledger,
        members: Sequence[Member],
        joiner: Callable[[str, int], Member],
    ) -> None:
        self.members = list(members)
        self.deleted: dict[int, int] = {}
        self._cluster, self._installation, self._ledger = cluster, installation, ledger
        self._joiner = joiner
        self._n_joined = 0
        self._healing: list[tuple[float, Callable[[], None]]] = []
        self._cutting: float | None = None  # since when readers are kept away, so that the log can be cut
        self._n_outages = 0  # of the broker, not yet over
        self.kept_away_s = 0.0

    @property
    def is_cutting(self) -> bool:
        """Whether the log is about to be cut: other faults wait, or it would take long."""
        return self._cutting is not None

    @property
    def is_busy(self) -> bool:
        """Whether something is not healed yet."""
        return bool(self._healing) or self._cutting is not None

    def tend(self) -> None:
        """Start again what died, heal what is due."""
        now = time.monotonic()
        for member in self.members:
            member.tend(now)
        self._tend_broker()
        due = [heal for at, heal in self._healing if at <= now]
        self._healing = [(at, heal) for at, heal in self._healing if at > now]
        for heal in due:
            heal()
        if self._cutting is not None and now - self._cutting > LATE_S:
            self._cut_log()

    def heal_all(self) -> None:
        """Heal everything now."""
        for _, heal in self._healing:
            heal()
        self._healing.clear()

    def begin(self, fault: Fault) -> None:
        """Do a fault."""
        kind = fault.kind.partition("-")[0]
        if kind == "connector":
            self._to_connector(fault)
        elif kind == "net":
            self._network(fault)
        else:
            getattr(self, f"_{kind}")(fault)

    def _worker(self, fault: Fault) -> Member | None:
        return pick(self.members, fault.pick, lambda m: m.role != "connector" and not m.is_frozen)

    def _kill(self, fault: Fault) -> None:
        if worker := self._worker(fault):
            worker.kill()

    def _term(self, fault: Fault) -> None:
        if worker := self._worker(fault):
            worker.ask()

    def _freeze(self, fault: Fault) -> None:
        if worker := self._worker(fault):
            self._frozen(worker, fault.for_s)

    def _frozen(self, member: Member, for_s: float) -> None:
        member.freeze()
        self._later(for_s, member.thaw)

    def _disk(self, fault: Fault) -> None:
        if worker := self._worker(fault):
            self._rough([worker], fault.for_s)
            worker.fill_disk(full=True)
            self._later(fault.for_s, lambda: worker.fill_disk(full=False))

    def _join(self, fault: Fault) -> None:
        stages = self._installation.stages
        stage = stages[int(fault.pick * len(stages))]
        if self._cutting is not None and stage == stages[0]:
            stage = stages[-1]  # it would read what is about to be cut
        self._n_joined += 1
        joiner = self._joiner(stage, self._n_joined)
        self.members.append(joiner)
        self._later(fault.for_s, lambda: self._leave(joiner, politely=fault.pick * 10 % 1 < 0.5))

    @staticmethod
    def _leave(joiner: Member, *, politely: bool) -> None:
        joiner.wanted = False
        if politely:
            joiner.ask()
        else:
            joiner.kill()

    def _to_connector(self, fault: Fault) -> None:
        connector = pick(self.members, fault.pick, lambda m: m.role == "connector" and not m.is_frozen)
        if connector is None:
            return
        if fault.kind == "connector-freeze":
            self._frozen(connector, fault.for_s)
        elif fault.kind == "connector-term":
            connector.ask()
        else:
            connector.kill()

    def _broker(self, fault: Fault) -> None:
        broker = self._cluster.broker
        assert broker is not None
        self._rough(self.members, fault.for_s)
        broker.kill()
        self._n_outages += 1

        def again() -> None:
            self._n_outages -= 1
            if not self._n_outages:
                broker.launch()

        self._later(fault.for_s, again)

    def _tend_broker(self) -> None:
        """Start the broker again if it ended by itself, as its supervisor would."""
        broker = self._cluster.broker
        if broker is not None and not self._n_outages and not broker.is_alive:
            print(f"  the broker {broker.told}; started again", flush=True)
            broker.launch()

    def _network(self, fault: Fault) -> None:
        proxy = self._cluster.proxy
        assert proxy is not None
        self._rough(self.members, fault.for_s)
        proxy.set(PROXY_WEATHER[fault.kind])
        self._later(fault.for_s, lambda: proxy.set("fair"))

    @staticmethod
    def _rough(members: Sequence[Member], for_s: float) -> None:
        for member in members:
            member.rough_until = time.monotonic() + for_s + AFTERMATH_S

    def _later(self, after_s: float, heal: Callable[[], None]) -> None:
        self._healing.append((time.monotonic() + after_s, heal))

    def _poison(self, fault: Fault) -> None:  # noqa: ARG002 - all faults are called in one way
        found = victim(self._ledger.look().of("flows"))
        if found is not None:
            place, message = found
            self._installation.put([(place, fatal_message(message))])

    def _segments(self, fault: Fault) -> None:  # noqa: ARG002
        """Keep all readers of the flows away until enough of them wait in the log."""
        self._cutting = time.monotonic()
        for member in self._readers():
            member.wanted = False
            member.kill()

    def _readers(self) -> list[Member]:
        reading = self._installation.stages[0]
        return [member for member in self.members if member.role == reading]

    def _cut_log(self) -> None:
        """Delete half of what no reader has read yet, of every lane, and let the readers start again."""
        books = self._ledger.look()
        readers_output = "detections" if self._installation.inline else "features"
        done: dict[int, int] = {}
        for (lane, _), message in books.messages[readers_output].items():
            done[lane] = max(done.get(lane, -1), message.number("weir-flows-offset"))
        ends = {lane: end for (kind, lane), end in books.ends().items() if kind == "flows"}
        behind = {lane: end - done.get(lane, -1) - 1 for lane, end in ends.items()}
        cuts = {lane: done[lane] + 1 + n // 2 for lane, n in behind.items() if n >= BEHIND and lane in done}
        waited_s = time.monotonic() - (self._cutting or 0)
        if len(cuts) < len(ends) and waited_s < PATIENCE_S / (2 if cuts else 1):
            return
        admin = KafkaAdminClient(bootstrap_servers=self._installation.direct.servers)
        try:
            admin.delete_records(
                {TopicPartition(self._installation.flows, lane): at for lane, at in cuts.items()}
            )
        finally:
            admin.close()
        self.deleted |= cuts
        self._cutting = None
        self.kept_away_s = waited_s
        for member in self._readers():
            member.wanted = "joiner" not in member.name

    def lost_spans(self) -> list[tuple[int, int, int]]:
        """Return partition, first and last offset of all that the workers' logs report as lost."""
        found = set()
        for member in self.members:
            found |= _lost_in(member.log)
        return sorted(found)

    def lost(self) -> set[Place]:
        """Return the places of all flows messages reported as lost."""
        if not self.deleted:
            return set()
        return {(p, at) for p, first, last in self.lost_spans() for at in range(first, last + 1)}

    def who(self) -> str:
        """Return what each process is doing, for somebody who must find out which one sits there."""
        books = self._ledger.look()
        behind = [f"{kind}/{lane} ends at {end}" for (kind, lane), end in sorted(books.ends().items())]
        states = [
            f"{m.name} ({'alive' if m.is_alive else m.codes[-1:]}): {m.last_words()}" for m in self.members
        ]
        parts = {"network": self._cluster.proxy, "broker": self._cluster.broker}
        network = ", ".join(f"{name} {part.told}" for name, part in parts.items() if part)
        return f"unanswered {books.unanswered()[:5]}; {', '.join(behind)}; {network}\n" + "\n".join(states)


def _lost_in(log: Path) -> set[tuple[int, int, int]]:
    text = log.read_text(errors="replace") if log.exists() else ""
    return {(int(p), int(first), int(last)) for p, first, last in _LOST.findall(text)}
