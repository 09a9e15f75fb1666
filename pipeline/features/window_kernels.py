"""The compiled half of the windows: interning, counting and moving over `window_tables`.

They call each other, so they live in one file (`compiled`).
"""

import numpy as np

from pipeline.features.compiled import compiled
from pipeline.features.window_tables import Integers, Limits, Links, Rows, Tables, Words

ENTITIES, PAIRS, TRIPLES = 0, 1, 2  # places in Tables.used
CLOCK, SEQ = 0, 1  # places in Tables.lane
N_LATE, N_CAPPED, LATE_US = 0, 1, 2  # places in Tables.meters
N_COLUMNS = 8  # counts of one window for one row

EMPTY = np.uint64(0)
ONE = np.uint64(1)
LOW = np.uint64(0xFFFF_FFFF)
HIGH = np.uint64(0xFFFF_FFFF_0000_0000)
HALF = np.uint64(32)
PORT_BITS = np.uint64(17)  # 65,536 ports and "no port"
PORTS = np.uint64((1 << 17) - 1)


@compiled
def mix(word: np.uint64) -> np.uint64:
    """Return `word` with every bit depending on every bit: the finaliser of splitmix64 [1].

    References
    ----------
    .. [1] Steele, Lea & Flood (2014), Fast splittable pseudorandom number generators, figure 17.
    """
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@compiled
def hash_entity(address: Words, sensor: np.uint64, seed: np.uint64) -> np.uint64:
    """Return the hash of an entity; whoever does not know the seed cannot aim at one slot."""
    return mix(mix(mix(address[0] ^ seed) + address[1]) + sensor)


@compiled
def fetch(slots: Words, hashes: Words) -> np.uint64:
    """Read the slot of every hash, so that they come into the cache together and not one by one.

    The result means nothing; it must be kept, or the compiler leaves the reading out.
    """
    mask = np.uint64(slots.size) - ONE
    seen = EMPTY
    for hashed in hashes:
        seen ^= slots[hashed & mask]
    return seen


@compiled
def put(slots: Words, at: np.uint64, hashed: np.uint64, number: int) -> None:
    """Fill a slot: half of the hash, which spares most looks at foreign keys, and the number."""
    slots[at] = (hashed & HIGH) | np.uint64(number + 1)


@compiled
def insert(slots: Words, hashes: Words, first: int) -> np.uint64:
    """Put keys that are not in the table under the numbers from `first` on; return as `fetch`."""
    mask = np.uint64(slots.size) - ONE
    seen = fetch(slots, hashes)
    for i in range(hashes.size):
        at = hashes[i] & mask
        while slots[at] != EMPTY:
            at = (at + ONE) & mask
        put(slots, at, hashes[i], first + i)
    return seen


@compiled
def entity(tables: Tables, address: Words, sensor: np.uint64, hashed: np.uint64) -> int:
    """Return the number of an entity, a new one if it is not in the table."""
    slots, keys = tables.entity_slots, tables.entity_keys
    mask = np.uint64(slots.size) - ONE
    at = hashed & mask
    while slots[at] != EMPTY:
        if (slots[at] ^ hashed) & HIGH == EMPTY:
            known = int(np.int64(slots[at] & LOW)) - 1
            same = keys[known, 0] == address[0] and keys[known, 1] == address[1]
            if same and keys[known, 2] == sensor:
                return known
        at = (at + ONE) & mask
    new = int(tables.used[ENTITIES])
    tables.used[ENTITIES] = new + 1
    put(slots, at, hashed, new)
    keys[new, 0], keys[new, 1], keys[new, 2] = address[0], address[1], sensor
    return new


@compiled
def pair(tables: Tables, key: np.uint64, hashed: np.uint64) -> int:
    """Return the number of a pair, a new one if it is not in the table."""
    slots, pairs = tables.pair_slots, tables.pairs
    mask = np.uint64(slots.size) - ONE
    at = hashed & mask
    while slots[at] != EMPTY:
        if (slots[at] ^ hashed) & HIGH == EMPTY:
            known = int(np.int64(slots[at] & LOW)) - 1
            if pairs[known].key == key:
                return known
        at = (at + ONE) & mask
    new = int(tables.used[PAIRS])
    tables.used[PAIRS] = new + 1
    put(slots, at, hashed, new)
    pairs[new].key, pairs[new].last = key, -1
    return new


@compiled
def triple(tables: Tables, key: np.uint64, hashed: np.uint64) -> np.uint64:
    """Return the slot of a triple; if it is not in the table, an empty one that now has its key."""
    slots = tables.triples
    mask = np.uint64(len(slots)) - ONE
    at = hashed & mask
    while slots[at, 1] != EMPTY:
        if slots[at, 0] == key:
            return at
        at = (at + ONE) & mask
    tables.used[TRIPLES] += 1
    slots[at, 0] = key
    return at


@compiled
def intern_entities(tables: Tables, addresses: Words, sensors: Words, links: Links, out: Integers) -> None:
    """Write the entity of every row to `out`."""
    for i in range(out.size):
        links.hashes[i] = hash_entity(addresses[i], sensors[i], tables.seed[0])
    links.fetched[0] = fetch(tables.entity_slots, links.hashes)
    for i in range(out.size):
        out[i] = entity(tables, addresses[i], sensors[i], links.hashes[i])


@compiled
def intern_pairs(tables: Tables, links: Links) -> None:
    """Write the pair of every row, and where the same pair was last."""
    keys, hashes, seq = links.keys, links.hashes, tables.lane[SEQ]
    for i in range(keys.size):
        keys[i] = np.uint64(links.src[i]) << HALF | np.uint64(links.dst[i])
        hashes[i] = mix(keys[i] ^ tables.seed[0])
    links.fetched[0] = fetch(tables.pair_slots, hashes)
    for i in range(keys.size):
        links.pair[i] = pair(tables, keys[i], hashes[i])
        node = tables.pairs[links.pair[i]]
        links.pair_before[i] = node.last
        node.last = seq + i


@compiled
def intern_triples(tables: Tables, ports: Integers, links: Links) -> None:
    """Write where the triple of every row was last."""
    keys, hashes, seq = links.keys, links.hashes, tables.lane[SEQ]
    for i in range(keys.size):
        keys[i] = np.uint64(links.pair[i]) << PORT_BITS | np.uint64(ports[i] + 1)
        hashes[i] = mix(keys[i] ^ tables.seed[0])
    links.fetched[0] = fetch(tables.triples[:, 1], hashes)
    for i in range(keys.size):
        at = triple(tables, keys[i], hashes[i])
        links.triple_before[i] = np.int64(tables.triples[at, 1]) - 1
        tables.triples[at, 1] = np.uint64(seq + i + 1)


@compiled
def wrap(place: int, size: int) -> int:
    """Return a place in a ring from one less than a turn too far; cheaper than a division.

    One before the beginning counts from the end anyway.
    """
    return place - size if place >= size else place


@compiled
def append(tables: Tables, rows: Rows, links: Links) -> None:
    """Write rows into the ring, with the clock, and link those before to them."""
    ring, size, lane, meters = tables.ring, tables.ring.size, tables.lane, tables.meters
    start = lane[SEQ] % size
    for i in range(rows.bytes.size):
        late = lane[CLOCK] - rows.event_time[i]
        meters[N_LATE] += late > 0
        meters[LATE_US] = max(meters[LATE_US], late)
        lane[CLOCK] = max(lane[CLOCK], rows.event_time[i])
        place = wrap(start + i, size)
        row = ring[place]
        row.clock, row.bytes, row.failed = lane[CLOCK], rows.bytes[i], rows.failed[i]
        row.src, row.dst, row.pair = links.src[i], links.dst[i], links.pair[i]
        row.pair_next, row.triple_next = 0, 0
        if links.pair_before[i] >= tables.tails[-1]:
            back = lane[SEQ] + i - links.pair_before[i]
            ring[wrap(place - back, size)].pair_next = back
        if links.triple_before[i] >= tables.tails[-1]:
            back = lane[SEQ] + i - links.triple_before[i]
            ring[wrap(place - back, size)].triple_next = back


@compiled
def leave(tables: Tables, width: int, place: int, tail: int, now: int) -> None:
    """Take the row at `tail` out of a window, before the row at `now` enters it.

    A pair or triple goes with its last row: the one that has no next row, or has it only now.
    """
    row = tables.ring[place]
    pair_gone = row.pair_next == 0 or tail + row.pair_next >= now
    triple_gone = row.triple_next == 0 or tail + row.triple_next >= now
    src = tables.entity_stats[row.src, width]
    src.flows -= 1
    src.bytes -= row.bytes
    src.failed -= row.failed
    src.dsts -= pair_gone
    src.dst_ports -= triple_gone
    dst = tables.entity_stats[row.dst, width]
    dst.flows_in -= 1
    dst.srcs -= pair_gone
    tables.pair_flows[row.pair, width] -= 1


@compiled
def enter(tables: Tables, width: int, place: int, new: tuple[bool, bool], out: Integers) -> None:
    """Bring a row, its pair and triple new or not, into a window; write what the window then holds."""
    row = tables.ring[place]
    pair_new, triple_new = new
    src = tables.entity_stats[row.src, width]
    src.flows += 1
    src.bytes += row.bytes
    src.failed += row.failed
    src.dsts += pair_new
    src.dst_ports += triple_new
    dst = tables.entity_stats[row.dst, width]
    dst.flows_in += 1
    dst.srcs += pair_new
    tables.pair_flows[row.pair, width] += 1
    out[0], out[1], out[2], out[3], out[4] = src.flows, src.bytes, src.failed, src.dsts, src.dst_ports
    out[5], out[6], out[7] = dst.flows_in, dst.srcs, tables.pair_flows[row.pair, width]


@compiled
def count(tables: Tables, width: int, links: Links, limits: Limits, out: Integers) -> int:
    """Carry one window over rows in the ring; return how many of them met the capacity."""
    ring, size, seq, tail = tables.ring, tables.ring.size, tables.lane[SEQ], tables.tails[width]
    place, tail_place, n_capped = seq % size, tail % size, 0
    for i in range(links.pair.size):
        now = seq + i
        opened = ring[place].clock - limits.widths_us[width]  # rows of this time or earlier have left
        while tail < now and (ring[tail_place].clock <= opened or tail <= now - limits.capacity):
            n_capped += ring[tail_place].clock > opened
            leave(tables, width, tail_place, tail, now)
            tail += 1
            tail_place = wrap(tail_place + 1, size)
        new = (links.pair_before[i] < tail, links.triple_before[i] < tail)
        enter(tables, width, place, new, out[i, N_COLUMNS * width : N_COLUMNS * (width + 1)])
        place = wrap(place + 1, size)
    tables.tails[width] = tail
    return n_capped


@compiled
def update(tables: Tables, rows: Rows, links: Links, limits: Limits, out: Integers) -> None:
    """Bring rows into all windows and write a row of `out` for each.

    There must be room for them: as many rows, pairs and triples, twice as many entities.
    """
    intern_entities(tables, rows.src, rows.sensor, links, links.src)
    intern_entities(tables, rows.dst, rows.sensor, links, links.dst)
    intern_pairs(tables, links)
    intern_triples(tables, rows.dst_port, links)
    append(tables, rows, links)
    n_capped = 0
    for width in range(tables.tails.size):
        n_capped = count(tables, width, links, limits, out)
    tables.meters[N_CAPPED] += n_capped  # of the widest
    tables.lane[SEQ] += rows.bytes.size


@compiled
def living(tables: Tables) -> tuple[int, int, int]:
    """Return how many entities, pairs and triples the open rows refer to."""
    widest = tables.tails.size - 1
    entities = pairs = triples = 0
    for i in range(tables.used[ENTITIES]):
        stats = tables.entity_stats[i, widest]
        entities += stats.flows + stats.flows_in > 0
    for i in range(tables.used[PAIRS]):
        pairs += tables.pair_flows[i, widest] > 0
    oldest = np.uint64(tables.tails[widest])
    for i in range(len(tables.triples)):
        triples += tables.triples[i, 1] > oldest
    return entities, pairs, triples


@compiled
def move_entities(old: Tables, new: Tables) -> Integers:
    """Carry over the living entities, in their order; return their new numbers."""
    numbers = np.empty(old.used[ENTITIES], np.int64)
    widest = old.tails.size - 1
    moved = 0
    for i in range(numbers.size):
        stats = old.entity_stats[i, widest]
        if stats.flows + stats.flows_in > 0:
            for word in range(3):
                new.entity_keys[moved, word] = old.entity_keys[i, word]
            for width in range(widest + 1):
                new.entity_stats[moved, width] = old.entity_stats[i, width]
            numbers[i] = moved
            moved += 1
    new.used[ENTITIES] = moved
    return numbers


@compiled
def move_pairs(old: Tables, new: Tables, entities: Integers) -> Integers:
    """Carry over the living pairs, in their order; return their new numbers."""
    numbers = np.empty(old.used[PAIRS], np.int64)
    widest = old.tails.size - 1
    moved = 0
    for i in range(numbers.size):
        if old.pair_flows[i, widest] > 0:
            key = old.pairs[i].key
            src, dst = entities[np.int64(key >> HALF)], entities[np.int64(key & LOW)]
            new.pairs[moved].key = np.uint64(src) << HALF | np.uint64(dst)
            new.pairs[moved].last = old.pairs[i].last
            for width in range(widest + 1):
                new.pair_flows[moved, width] = old.pair_flows[i, width]
            numbers[i] = moved
            moved += 1
    new.used[PAIRS] = moved
    return numbers


@compiled
def move_triples(old: Tables, new: Tables, pairs: Integers) -> None:
    """Carry over the living triples."""
    oldest = np.uint64(old.tails[-1])
    for i in range(len(old.triples)):
        last = old.triples[i, 1]
        if last > oldest:
            number = pairs[np.int64(old.triples[i, 0] >> PORT_BITS)]
            key = np.uint64(number) << PORT_BITS | old.triples[i, 0] & PORTS
            new.triples[triple(new, key, mix(key ^ old.seed[0])), 1] = last


@compiled
def index(tables: Tables, links: Links) -> None:
    """Fill the empty slots of the entities and pairs that are in the tables."""
    hashes, keys, seed = links.hashes, tables.entity_keys, tables.seed[0]
    for start in range(0, tables.used[ENTITIES], hashes.size):
        n = min(hashes.size, tables.used[ENTITIES] - start)
        for i in range(n):
            hashes[i] = hash_entity(keys[start + i], keys[start + i, 2], seed)
        links.fetched[0] = insert(tables.entity_slots, hashes[:n], start)
    for start in range(0, tables.used[PAIRS], hashes.size):
        n = min(hashes.size, tables.used[PAIRS] - start)
        for i in range(n):
            hashes[i] = mix(tables.pairs[start + i].key ^ seed)
        links.fetched[0] = insert(tables.pair_slots, hashes[:n], start)


@compiled
def move(old: Tables, new: Tables, links: Links) -> None:
    """Carry all that is open over into empty tables; only the ring may be the same array."""
    new.lane[:], new.tails[:], new.meters[:], new.seed[:] = old.lane, old.tails, old.meters, old.seed
    entities = move_entities(old, new)
    pairs = move_pairs(old, new, entities)
    move_triples(old, new, pairs)
    index(new, links)
    place, old_place = old.tails[-1] % new.ring.size, old.tails[-1] % old.ring.size
    for _ in range(old.tails[-1], old.lane[SEQ]):
        row, was = new.ring[place], old.ring[old_place]
        row.clock, row.bytes, row.failed = was.clock, was.bytes, was.failed
        row.pair_next, row.triple_next = was.pair_next, was.triple_next
        row.src, row.dst, row.pair = entities[was.src], entities[was.dst], pairs[was.pair]
        place = wrap(place + 1, new.ring.size)
        old_place = wrap(old_place + 1, old.ring.size)
