"""The normal flows of one hour: how many each host opens, and all of them at once as arrays."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from connectors.synthetic.activities import ACTIVITIES, Activity, Spread
from connectors.synthetic.flows import (
    ESTABLISHED,
    FLOW,
    OTHER,
    PROTOCOLS,
    RESET,
    SERVICES,
    UNKNOWN,
    Floats,
    Flows,
    ephemeral_ports,
    lognormal,
    set_one_way,
    set_rejected,
    set_unanswered,
    set_volume,
)
from connectors.synthetic.site import Site

HOUR_US = 3_600_000_000
WORKSTATIONS = 40
"""For how many people the table of activities is written; shared servers follow their number."""

_BURST_S = 1.5  # mean time by which the flows of one burst lag behind its first one
_LONGEST_S = 6 * 3600.0
_LARGEST_BYTES = 2e10
_WEEKEND, _ABSENT = 0.06, 0.06  # people there on a weekend; people away on a working day
_BACKGROUND = 0.012  # what a machine does that nobody sits at

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Habits:
    """Every (host, activity) pair of a site, one row each, and the activities by column."""

    client: npt.NDArray[np.uint32]
    activity: Ints
    level: Floats  # flows in a full hour
    volume: Floats  # this host's sizes, relative to the activity's
    person: Ints  # index of the workstation, or -1: follows the activity's profile alone
    arrives: Floats  # by person, hour of the day
    leaves: Floats
    pools: npt.NDArray[np.uint32]  # the servers of all activities, one after the other
    pool_start: Ints  # by activity
    pool_size: Ints

    @classmethod
    def of(cls, site: Site, seed: int, *, scale: float) -> Self:
        """Draw the habits of a site's hosts: the same ones on every day."""
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        n_people = site.roles["workstation"].size
        pairs = [
            (client, i)
            for i, activity in enumerate(ACTIVITIES)
            for client in site.roles[activity.clients].tolist()
            if set(site.roles[activity.servers].tolist()) != {client}
        ]
        client = np.array([pair[0] for pair in pairs], dtype=np.uint32)
        activity = np.array([pair[1] for pair in pairs], dtype=np.int64)
        people = np.array(
            [scale * (n_people / WORKSTATIONS if a.profile == "office" else 1) for a in ACTIVITIES]
        )
        rates = np.array([a.per_hour for a in ACTIVITIES]) * people
        spread = np.array([0.0 if a.periodic else 0.4 for a in ACTIVITIES])
        pools = [site.roles[a.servers] for a in ACTIVITIES]
        sizes = np.array([pool.size for pool in pools])
        person = client.astype(np.int64) - int(site.roles["workstation"][0])
        return cls(
            client=client,
            activity=activity,
            level=rates[activity] * lognormal(rng, 1.0, spread[activity], activity.size),
            volume=lognormal(rng, 1.0, 0.3, activity.size),
            person=np.where((person >= 0) & (person < n_people), person, -1),
            arrives=rng.normal(8.2, 0.7, n_people),
            leaves=rng.normal(17.2, 0.8, n_people),
            pools=np.concatenate(pools),
            pool_start=np.cumsum(sizes) - sizes,
            pool_size=sizes,
        )

    def expected(self, rng: np.random.Generator, *, weekend: bool) -> Floats:
        """Return how many flows each habit opens in each hour of a day, shape (n_habits, 24)."""
        hours: Floats = np.arange(24, dtype=np.float64) + 0.5
        there = rng.random(self.arrives.size) < (_WEEKEND if weekend else 1 - _ABSENT)
        arrives = self.arrives + rng.normal(0, 0.25, self.arrives.size)
        leaves = self.leaves + rng.normal(0, 0.35, self.leaves.size)
        present = there[:, None] * _presence(hours, arrives[:, None], leaves[:, None]) + _BACKGROUND
        by_profile = _profiles(hours, weekend=weekend)
        profile = np.array([by_profile[a.profile] for a in ACTIVITIES])[self.activity]
        personal = np.array([a.profile == "present" for a in ACTIVITIES])[self.activity] & (self.person >= 0)
        profile[personal] = present[self.person[personal]]
        busy = lognormal(rng, 1.0, 0.15, self.level.size)
        busy[_PERIODIC[self.activity]] = 1.0
        levels: Floats = profile * (self.level * busy)[:, None]
        return levels


def _presence(hours: Floats, arrives: Floats | float, leaves: Floats | float) -> Floats:
    morning = 1 / (1 + np.exp((arrives - hours) / 0.35))
    evening = 1 / (1 + np.exp((hours - leaves) / 0.35))
    lunch = 1 - 0.55 * np.exp(-(((hours - 12.6) / 0.6) ** 2))
    return np.asarray(morning * evening * lunch)


def _profiles(hours: Floats, *, weekend: bool) -> dict[str, Floats]:
    office = _presence(hours, 7.9, 17.8) * (_WEEKEND if weekend else 1) + 0.03
    return {
        "present": office,
        "office": office,
        "always": np.ones(24),
        "night": np.isin(hours, [1.5, 2.5, 3.5]).astype(np.float64),
        "morning": np.isin(hours, [8.5, 9.5]).astype(np.float64) * (0.1 if weekend else 1.0),
    }


_PERIODIC = np.array([a.periodic for a in ACTIVITIES])
_BURST = np.array([a.burst for a in ACTIVITIES])


def _codes(names: tuple[str, ...], values: list[str | None]) -> npt.NDArray[np.int8]:
    return np.array([UNKNOWN if v is None else names.index(v) for v in values], dtype=np.int8)


def _spreads(values: list[Spread]) -> Floats:
    return np.array(values).T


_SSL, _HTTP = SERVICES.index("ssl"), SERVICES.index("http")
_PROTOCOL = _codes(PROTOCOLS, [a.protocol for a in ACTIVITIES])
_SERVICE = _codes(SERVICES, [a.service for a in ACTIVITIES])
_REQUEST = _spreads([a.request for a in ACTIVITIES])
_REPLY = _spreads([a.reply or (1.0, 0.0) for a in ACTIVITIES])
_WAIT = _spreads([a.wait for a in ACTIVITIES])
_SPEED = _spreads([a.speed for a in ACTIVITIES])
_SILENT = np.array([a.reply is None for a in ACTIVITIES])
_SEGMENT = np.array([a.segment for a in ACTIVITIES])
_CLIENT_PORT = np.array([UNKNOWN if a.client_port is None else a.client_port for a in ACTIVITIES])
_NO_PORTS = np.array([not a.ports for a in ACTIVITIES])
_N_PORTS = np.array([max(1, len(a.ports)) for a in ACTIVITIES])


def _port_table(activities: tuple[Activity, ...]) -> npt.NDArray[np.int32]:
    table = np.full((len(activities), int(_N_PORTS.max())), UNKNOWN, dtype=np.int32)
    for row, activity in zip(table, activities, strict=True):
        row[: len(activity.ports)] = activity.ports
    return table


_PORTS = _port_table(ACTIVITIES)
# Shares of flows that are attempted, attempted or rejected, and any of the three.
_FAILS = np.cumsum([(a.attempted, a.rejected, a.reset) for a in ACTIVITIES], axis=1)


@dataclass(frozen=True, kw_only=True)
class Visits:
    """How often each habit is followed in an hour, and how many flows come together each time."""

    habit: Ints  # by visit
    size: Ints

    @property
    def n_flows(self) -> int:
        """Number of flows of the hour."""
        return int(self.size.sum())


def visits(habits: Habits, expected: Floats, rng: np.random.Generator) -> Visits:
    """Draw the visits of one hour: cheap, so that a reader can count a month without its flows."""
    periodic, burst = _PERIODIC[habits.activity], _BURST[habits.activity]
    n_visits = np.where(
        periodic, np.floor(expected + rng.random(expected.size)), rng.poisson(expected / burst)
    ).astype(np.int64)
    habit = np.repeat(np.arange(expected.size), n_visits)
    return Visits(habit=habit, size=rng.geometric(1 / burst[habit]))


def flows(habits: Habits, drawn: Visits, hour: int, rng: np.random.Generator) -> Flows:
    """Return the flows of one hour of a day in no order."""
    habit = np.repeat(drawn.habit, drawn.size)
    kind = habits.activity[habit]
    made = np.zeros(habit.size, dtype=FLOW)
    made["end_us"] = hour * HOUR_US + _times(habits, drawn, rng)
    made["src"] = habits.client[habit]
    made["dst"] = _servers(habits, habit, np.repeat(_nth(drawn), drawn.size), rng)
    made["protocol"] = _PROTOCOL[kind]
    made["service"] = _SERVICE[kind]
    made["state"] = ESTABLISHED
    _set_ports(made, kind, rng)
    _set_sizes(made, kind, habits.volume[habit], rng)
    _fail(made, kind, rng)
    return made


def _nth(drawn: Visits) -> Ints:
    """Return the number of each visit among those of its habit, from 0."""
    first = np.searchsorted(drawn.habit, drawn.habit)
    return np.arange(drawn.habit.size) - first


def _times(habits: Habits, drawn: Visits, rng: np.random.Generator) -> Ints:
    """Return microseconds within the hour, by flow."""
    count = np.bincount(drawn.habit, minlength=habits.client.size)[drawn.habit]
    phase = np.modf(drawn.habit * 0.618033988749895)[0]  # each clock ticks at its own second
    ticks = (_nth(drawn) + phase) / count + rng.normal(0, 3e-5, count.size)
    begins = np.where(_PERIODIC[habits.activity[drawn.habit]], ticks, rng.random(count.size)) * 3600
    lags = rng.exponential(_BURST_S, drawn.n_flows) * np.repeat(drawn.size > 1, drawn.size)
    seconds = np.clip(np.repeat(begins, drawn.size) + lags, 0, 3599.999)
    return (seconds * 1e6).astype(np.int64)


def _servers(habits: Habits, habit: Ints, nth: Ints, rng: np.random.Generator) -> npt.NDArray[np.uint32]:
    """Return the responders: clocks take their servers in turn, people the popular ones more often."""
    kind = habits.activity[habit]
    size, start = habits.pool_size[kind], habits.pool_start[kind]
    popular = np.floor(np.exp(rng.random(habit.size) * np.log(size + 1.0)) - 1).astype(np.int64)
    rank = np.where(_PERIODIC[kind], nth % size, np.minimum(popular, size - 1))
    chosen = habits.pools[start + rank]
    itself = chosen == habits.client[habit]
    chosen[itself] = habits.pools[start[itself] + (rank[itself] + 1) % size[itself]]
    return chosen


def _set_ports(made: Flows, kind: Ints, rng: np.random.Generator) -> None:
    choice = (rng.random(kind.size) * _N_PORTS[kind]).astype(np.int64)
    made["dst_port"] = _PORTS[kind, choice]
    fixed = _CLIENT_PORT[kind]
    made["src_port"] = np.where(fixed == UNKNOWN, ephemeral_ports(rng, kind.size), fixed)
    made["src_port"][_NO_PORTS[kind]] = UNKNOWN
    made["service"][(made["dst_port"] == 80) & (made["service"] == _SSL)] = _HTTP


def _set_sizes(made: Flows, kind: Ints, volume: Floats, rng: np.random.Generator) -> None:
    """Draw payloads and from them bytes, packets and durations, which therefore agree."""
    n = kind.size
    common, own = rng.standard_normal(n), rng.standard_normal(n)
    sent = _REQUEST[0, kind] * volume * np.exp(_REQUEST[1, kind] * common)
    # Long requests have long answers: correlation 0.6 of the logarithms.
    received = _REPLY[0, kind] * volume * np.exp(_REPLY[1, kind] * (0.6 * common + 0.8 * own))
    exact = _REQUEST[1, kind] == 0
    sent[exact], received[exact] = _REQUEST[0, kind[exact]], _REPLY[0, kind[exact]]
    sent, received = np.minimum(sent, _LARGEST_BYTES), np.minimum(received, _LARGEST_BYTES)
    received[_SILENT[kind]] = 0
    set_volume(made, sent, received, _SEGMENT[kind])
    transfer = (sent + received) / lognormal(rng, _SPEED[0, kind], _SPEED[1, kind], n)
    made["duration"] = np.minimum(transfer + lognormal(rng, _WAIT[0, kind], _WAIT[1, kind], n), _LONGEST_S)


def _fail(made: Flows, kind: Ints, rng: np.random.Generator) -> None:
    """Let the usual share of flows go wrong, and take the answers from what has none."""
    luck = rng.random(kind.size)
    attempted, rejected, reset = _FAILS[kind].T
    set_unanswered(made, luck < attempted, rng)
    set_rejected(made, (luck >= attempted) & (luck < rejected), rng)
    made["state"][(luck >= rejected) & (luck < reset)] = RESET
    silent = _SILENT[kind] & (made["state"] == ESTABLISHED)
    set_one_way(made, silent.copy())
    made["state"][silent] = OTHER
