"""Data sets that wait for their template."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from connectors.netflow.found import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSet:
    """A data set without a template."""

    stream: Hashable
    template_id: int
    number: int  # of the set in its datagram, from 0
    body: bytes
    origin: Origin
    held_at_s: float


class Held:
    """Data sets by the template they wait for: bounded by number, bytes and age, the oldest go first."""

    def __init__(self, *, most_sets: int, most_bytes: int, longest_s: float) -> None:
        self._most_sets, self._most_bytes, self._longest_s = most_sets, most_bytes, longest_s
        self._sets: OrderedDict[int, HeldSet] = OrderedDict()
        self._waiting: dict[tuple[Hashable, int], list[int]] = {}
        self._n_bytes = 0
        self._n_ever = 0

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, held: HeldSet) -> Iterator[HeldSet]:
        """Hold a set; yield those that had to go for it."""
        self._sets[self._n_ever] = held
        self._waiting.setdefault((held.stream, held.template_id), []).append(self._n_ever)
        self._n_ever += 1
        self._n_bytes += len(held.body)
        while len(self._sets) > self._most_sets or self._n_bytes > self._most_bytes:
            yield self._pop_oldest()

    def release(self, stream: Hashable, template_id: int) -> Iterator[HeldSet]:
        """Yield and forget the sets that wait for a template, in the order they came."""
        for number in self._waiting.pop((stream, template_id), ()):
            held = self._sets.pop(number)
            self._n_bytes -= len(held.body)
            yield held

    def expire(self, now_s: float) -> Iterator[HeldSet]:
        """Yield and forget the sets that have waited too long."""
        while self._sets and next(iter(self._sets.values())).held_at_s < now_s - self._longest_s:
            yield self._pop_oldest()

    def give_up(self) -> Iterator[HeldSet]:
        """Yield and forget all sets: nothing more will come."""
        while self._sets:
            yield self._pop_oldest()

    def _pop_oldest(self) -> HeldSet:
        number, held = self._sets.popitem(last=False)
        self._n_bytes -= len(held.body)
        key = (held.stream, held.template_id)
        # The oldest of all is the oldest of its template.
        waiting = self._waiting[key]
        waiting.remove(number)
        if not waiting:
            del self._waiting[key]
        return held
