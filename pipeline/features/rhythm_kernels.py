"""The compiled half of the rhythm: one hash table of contacts, and a ring of times for who comes again.

They call each other, so they live in one file (`compiled`); of the windows they use what any hash table
does. Whoever changes that there removes the compiled code of both.
"""

from typing import NamedTuple

import numpy as np

from pipeline.features.compiled import compiled
from pipeline.features.window_kernels import EMPTY, HIGH, LOW, ONE, fetch, insert, mix, put
from pipeline.features.window_tables import CHUNK, Integers, Records, Words

CONTACTS, RINGS = 0, 1  # places in Beats.used
N_WORDS = 6  # of a key: source and destination in two words each, sensor, port

NODE = np.dtype(
    [
        ("clock", "i8"),  # milliseconds, of the newest flow
        ("seq", "i8"),  # of the newest flow
        ("squares", "i8"),  # sum of the squared gaps between the flows that are held, square milliseconds
        ("held", "i4"),  # flows that the window held after the newest
        ("ring", "i4"),  # where their times are; -1 while there has been only one
        ("newest", "i4"),  # place of the newest in the ring
        ("spare", "i4"),  # fills the last of the words
    ]
)
"""What is known of one source, destination and port."""

TIME = np.dtype([("clock", "i8"), ("seq", "i8")])
"""When a flow came, milliseconds and position."""


class Beats(NamedTuple):
    """The state of a lane, changed in place."""

    slots: Words  # (2 ** k,): tag << 32 | 1 + contact, 0 = empty
    keys: Words  # (contacts, N_WORDS)
    nodes: Records  # NODE (contacts,)
    rings: Records  # TIME (rings, gaps + 1)
    used: Integers  # (2,): contacts and rings, the dead included
    seed: Words  # (1,): of the hashes


class Reach(NamedTuple):
    """Which flows a row still sees."""

    width_ms: int
    capacity: int  # rows of the lane


@compiled
def hash_key(key: Words, seed: np.uint64) -> np.uint64:
    """Return the hash of a contact; whoever does not know the seed cannot aim at one slot."""
    hashed = seed
    for i in range(N_WORDS):
        hashed = mix(hashed + key[i])
    return hashed


@compiled
def same(one: Words, other: Words) -> bool:
    """Return whether two keys are equal; comparing arrays whole would make one."""
    equal = True
    for i in range(N_WORDS):
        equal &= one[i] == other[i]
    return equal


@compiled
def find(beats: Beats, key: Words, hashed: np.uint64) -> int:
    """Return the number of a contact, a new one if it is not in the table."""
    slots, keys = beats.slots, beats.keys
    mask = np.uint64(slots.size) - ONE
    at = hashed & mask
    while slots[at] != EMPTY:
        if (slots[at] ^ hashed) & HIGH == EMPTY:
            known = int(np.int64(slots[at] & LOW)) - 1
            if same(keys[known], key):
                return known
        at = (at + ONE) & mask
    new = int(beats.used[CONTACTS])
    beats.used[CONTACTS] = new + 1
    put(slots, at, hashed, new)
    for i in range(N_WORDS):
        keys[new, i] = key[i]
    node = beats.nodes[new]
    node.held, node.ring = 0, -1
    return new


@compiled
def seen(clock: int, seq: int, then: int, then_seq: int, reach: Reach) -> bool:
    """Return whether a row sees one before."""
    return clock - then < reach.width_ms and seq - then_seq < reach.capacity


@compiled
def begin(beats: Beats, number: int, clock: int, seq: int) -> None:
    """Hold a flow alone."""
    node = beats.nodes[number]
    node.held, node.squares, node.newest = 1, 0, 0
    if node.ring >= 0:
        first = beats.rings[node.ring, 0]
        first.clock, first.seq = clock, seq


@compiled
def join(beats: Beats, number: int, clock: int, seq: int, reach: Reach) -> int:
    """Hold a flow after others, of which the newest is still seen; return the clock of the oldest held."""
    node, size = beats.nodes[number], beats.rings.shape[1]
    if node.ring < 0:
        node.ring = beats.used[RINGS]
        beats.used[RINGS] += 1
        first = beats.rings[node.ring, 0]
        first.clock, first.seq = node.clock, node.seq
    times = beats.rings[node.ring]
    oldest = node.newest - node.held + 1
    if oldest < 0:
        oldest += size
    while node.held == size or not seen(clock, seq, times[oldest].clock, times[oldest].seq, reach):
        after = oldest + 1 if oldest + 1 < size else 0
        gap = times[after].clock - times[oldest].clock
        node.squares -= gap * gap
        node.held -= 1
        oldest = after
    gap = clock - node.clock
    node.squares += gap * gap
    node.newest = node.newest + 1 if node.newest + 1 < size else 0
    node.held += 1
    times[node.newest].clock, times[node.newest].seq = clock, seq
    return int(times[oldest].clock)


@compiled
def update(
    beats: Beats, keys: Words, clocks: Integers, seqs: Integers, reach: Reach, out: Integers
) -> np.uint64:
    """Bring in flows; write for each its gaps, their sum and the sum of their squares; return as `fetch`."""
    hashes = np.empty(clocks.size, np.uint64)
    for i in range(clocks.size):
        hashes[i] = hash_key(keys[i], beats.seed[0])
    fetched = fetch(beats.slots, hashes)
    for i in range(clocks.size):
        clock, seq = clocks[i], seqs[i]
        number = find(beats, keys[i], hashes[i])
        node = beats.nodes[number]
        oldest = clock
        if node.held > 0 and seen(clock, seq, node.clock, node.seq, reach):
            oldest = join(beats, number, clock, seq, reach)
        else:
            begin(beats, number, clock, seq)
        node.clock, node.seq = clock, seq
        out[i, 0], out[i, 1], out[i, 2] = node.held - 1, clock - oldest, node.squares
    return fetched


@compiled
def living(beats: Beats, clock: int, seq: int, reach: Reach) -> tuple[int, int]:
    """Return how many contacts, and how many with a ring, the next row may still see."""
    contacts, rings = 0, 0
    for number in range(beats.used[CONTACTS]):
        node = beats.nodes[number]
        if seen(clock, seq, node.clock, node.seq, reach):
            contacts += 1
            rings += node.held > 1
    return contacts, rings


@compiled
def index(beats: Beats) -> np.uint64:
    """Fill the empty slots of the contacts that are in the table; return as `fetch`."""
    hashes, fetched = np.empty(CHUNK, np.uint64), EMPTY
    for start in range(0, beats.used[CONTACTS], CHUNK):
        n = min(CHUNK, beats.used[CONTACTS] - start)
        for i in range(n):
            hashes[i] = hash_key(beats.keys[start + i], beats.seed[0])
        fetched ^= insert(beats.slots, hashes[:n], start)
    return fetched


@compiled
def move(old: Beats, new: Beats, clock: int, seq: int, reach: Reach) -> np.uint64:
    """Carry what the next row may still see over into empty tables; return as `fetch`."""
    contacts, rings = 0, 0
    for number in range(old.used[CONTACTS]):
        was = old.nodes[number]
        if seen(clock, seq, was.clock, was.seq, reach):
            node, key, old_key = new.nodes[contacts], new.keys[contacts], old.keys[number]
            for i in range(N_WORDS):
                key[i] = old_key[i]
            node.clock, node.seq, node.squares = was.clock, was.seq, was.squares
            node.held, node.ring, node.newest = was.held, -1, 0
            if was.held > 1:
                node.ring, node.newest = rings, was.newest
                times, old_times = new.rings[rings], old.rings[was.ring]
                for i in range(times.size):
                    times[i].clock, times[i].seq = old_times[i].clock, old_times[i].seq
                rings += 1
            contacts += 1
    new.used[CONTACTS], new.used[RINGS] = contacts, rings
    return index(new)
