"""The attacks on the synthetic site: each kind with its parameters, placed in a day by the seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from connectors.synthetic import site as sites
from connectors.synthetic.flows import (
    DAY_US,
    ESTABLISHED,
    FLOW,
    LABELS,
    SERVICES,
    TCP,
    UDP,
    UNKNOWN,
    Floats,
    Flows,
    ephemeral_ports,
    lognormal,
    set_rejected,
    set_unanswered,
    set_volume,
)
from connectors.synthetic.site import Site

Range = tuple[float, float]
"""Least and greatest; drawn evenly between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The flows of one attack on one day."""

    flows: Flows
    source: str
    target: str


class Attack(Protocol):
    """One kind of attack."""

    @property
    def hours(self) -> Range:
        """Between which hours of the day it begins."""
        ...

    def make(self, begin_s: float, site: Site, rng: np.random.Generator) -> Made:
        """Return the flows of an attack that begins `begin_s` seconds after midnight."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PortScan:
    """A taken-over workstation tries one server's ports: most are closed, a few are filtered or open."""

    hours: Range = (8, 20)
    ports: Range = (800, 1500)
    seconds: Range = (60, 300)
    filtered: float = 0.12
    open: float = 0.004

    def make(self, begin_s: float, site: Site, rng: np.random.Generator) -> Made:
        """Try ports in random order, evenly in time."""
        source, target = site.one("workstation", rng), site.one("servers", rng)
        n = int(rng.uniform(*self.ports))
        flows = _some(begin_s + _evenly(n, rng.uniform(*self.seconds), rng), "port_scan", rng)
        flows["src"], flows["dst"] = source, target
        flows["dst_port"] = rng.permutation(np.arange(1, 10_000))[:n]
        _probe(flows, self.filtered, self.open, rng)
        return Made(flows=flows, source=sites.text(source), target=sites.text(target))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSweep:
    """A taken-over workstation looks for file shares on every address of its network."""

    hours: Range = (8, 20)
    addresses: Range = (400, 900)
    seconds: Range = (60, 240)
    port: int = 445
    nobody: float = 0.9
    open: float = 0.02

    def make(self, begin_s: float, site: Site, rng: np.random.Generator) -> Made:
        """Try one address after the other."""
        source = site.one("workstation", rng)
        n = int(rng.uniform(*self.addresses))
        flows = _some(begin_s + _evenly(n, rng.uniform(*self.seconds), rng), "host_sweep", rng)
        first = sites.number(sites.WORKSTATIONS_FROM) & 0xFFFFFC00
        others = first + 1 + np.arange(n + 1)
        flows["src"], flows["dst"] = source, others[others != source][:n]
        flows["dst_port"] = self.port
        _probe(flows, self.nobody, self.open, rng)
        return Made(
            flows=flows, source=sites.text(source), target=f"{n} addresses from {sites.text(first + 1)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SshBruteForce:
    """A stranger guesses passwords of the gateway, several connections at a time."""

    hours: Range = (0, 22)
    tries: Range = (400, 900)
    seconds: Range = (300, 900)

    def make(self, begin_s: float, site: Site, rng: np.random.Generator) -> Made:
        """Open short sessions of nearly the same size, each with a few guesses."""
        source, target = site.one("internet-strangers", rng), site.one("gateway", rng)
        n = int(rng.uniform(*self.tries))
        flows = _some(begin_s + _evenly(n, rng.uniform(*self.seconds), rng), "ssh_brute_force", rng, "ssh")
        flows["src"], flows["dst"], flows["dst_port"] = source, target, 22
        set_volume(flows, rng.normal(1_750, 90, n), rng.normal(2_250, 120, n), 700)
        flows["duration"] = rng.normal(2.6, 0.5, n).clip(0.4)
        return Made(flows=flows, source=sites.text(source), target=sites.text(target))


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowExfiltration:
    """A workstation uploads stolen files to a stranger, a piece now and then, for hours."""

    hours: Range = (7, 13)
    pieces: Range = (25, 45)
    pause_s: Range = (400, 900)
    piece_bytes: Range = (8e6, 4e7)

    def make(self, begin_s: float, site: Site, rng: np.random.Generator) -> Made:
        """Send much, receive nearly nothing, at no more than some hundred kilobytes a second."""
        source, target = site.one("workstation", rng), int(sites.strangers(rng, 1)[0])
        n = int(rng.uniform(*self.pieces))
        flows = _some(begin_s + np.cumsum(rng.uniform(*self.pause_s, n)), "slow_exfiltration", rng, "ssl")
        flows["src"], flows["dst"], flows["dst_port"] = source, target, 443
        sent = rng.uniform(*self.piece_bytes, n)
        set_volume(flows, sent, rng.normal(5_000, 600, n), 1400)
        flows["duration"] = sent / rng.uniform(1.5e5, 4e5, n)
        return Made(flows=flows, source=sites.text(source), target=sites.text(target))


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsTunnel:
    """A workstation carries data in the names it asks for: long questions, long answers, many."""

    hours: Range = (8, 18)
    questions: Range = (2_000, 4_000)
    seconds: Range = (900, 2_700)

    def make(self, begin_s: float, site: Site, rng: np.random.Generator) -> Made:
        """Ask the site's own resolver, which has to pass the questions on."""
        source, target = site.one("workstation", rng), site.one("dns", rng)
        n = int(rng.uniform(*self.questions))
        flows = _some(begin_s + _evenly(n, rng.uniform(*self.seconds), rng), "dns_tunnel", rng, "dns")
        flows["src"], flows["dst"], flows["dst_port"], flows["protocol"] = source, target, 53, UDP
        set_volume(flows, rng.normal(215, 18, n), rng.uniform(350, 1_100, n), 1400)
        flows["duration"] = lognormal(rng, 0.06, 0.5, n)
        return Made(flows=flows, source=sites.text(source), target=sites.text(target))


@dataclass(frozen=True, slots=True, kw_only=True)
class SynFlood:
    """Strangers with forged addresses send SYNs to the web server until it has no room left."""

    hours: Range = (6, 22)
    syns: Range = (6_000, 10_000)
    seconds: Range = (45, 120)
    answered: float = 0.3  # share of SYNs that the server still answers

    def make(self, begin_s: float, site: Site, rng: np.random.Generator) -> Made:
        """Send one SYN from each address; nobody ever completes a handshake."""
        target, n = site.one("web", rng), int(rng.uniform(*self.syns))
        flows = _some(begin_s + _evenly(n, rng.uniform(*self.seconds), rng), "syn_flood", rng)
        flows["src"], flows["dst"], flows["dst_port"] = sites.strangers(rng, n), target, 443
        flows["src_port"] = rng.integers(1024, 65_536, n)
        set_unanswered(flows, np.ones(n, dtype=np.bool_), rng)
        flows["src_packets"], flows["src_bytes"], flows["duration"] = 1, 40, 0.0
        answered = np.flatnonzero(rng.random(n) < self.answered)
        # The server repeats its answer to a silent peer after 1 s and 3 s.
        flows["dst_packets"][answered], flows["dst_bytes"][answered], flows["duration"][answered] = (
            3,
            132,
            3.0,
        )
        return Made(flows=flows, source=f"{n} forged addresses", target=sites.text(target))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beaconing:
    """Malware on a workstation asks its master for orders, by a clock, past the proxy."""

    hours: Range = (0, 10)
    every_s: Range = (45, 120)
    jitter: float = 0.04
    lasts_s: Range = (18_000, 43_000)

    def make(self, begin_s: float, site: Site, rng: np.random.Generator) -> Made:
        """Open small flows of nearly equal size at nearly equal intervals."""
        source, target = site.one("workstation", rng), int(sites.strangers(rng, 1)[0])
        every_s = rng.uniform(*self.every_s)
        n = int(rng.uniform(*self.lasts_s) / every_s)
        ticks = np.arange(n) * every_s + rng.normal(0, self.jitter * every_s, n).clip(
            -every_s / 3, every_s / 3
        )
        flows = _some(begin_s + every_s + ticks, "beaconing", rng, "ssl")
        flows["src"], flows["dst"], flows["dst_port"] = source, target, 443
        set_volume(flows, rng.normal(520, 6, n), rng.normal(310, 4, n), 1400)
        flows["duration"] = rng.normal(0.35, 0.03, n).clip(0.1)
        return Made(flows=flows, source=sites.text(source), target=sites.text(target))


ATTACKS: Mapping[str, Attack] = {
    "port_scan": PortScan(),
    "host_sweep": HostSweep(),
    "ssh_brute_force": SshBruteForce(),
    "slow_exfiltration": SlowExfiltration(),
    "dns_tunnel": DnsTunnel(),
    "syn_flood": SynFlood(),
    "beaconing": Beaconing(),
}
"""Every kind of attack; each happens once a day where it is asked for."""


def place(kind: str, site: Site, rng: np.random.Generator) -> Made:
    """Return one attack of a day, its flows in the order of their ends."""
    attack = ATTACKS[kind]
    made = attack.make(rng.uniform(*attack.hours) * 3600, site, rng)
    order = np.argsort(made.flows["end_us"], kind="stable")
    return Made(flows=made.flows[order], source=made.source, target=made.target)


def _evenly(n: int, seconds: float, rng: np.random.Generator) -> Floats:
    """Return n times over a span: a tool's own pace with the jitter of a real network."""
    return np.sort((np.arange(n) + rng.random(n)) * (seconds / n))


def _some(ends_s: Floats, kind: str, rng: np.random.Generator, service: str | None = None) -> Flows:
    """Return established TCP flows that end at the given seconds of the day."""
    flows = np.zeros(ends_s.size, dtype=FLOW)
    # An attack that reaches midnight ends there: a day's flows are the day's own.
    flows["end_us"] = np.clip(ends_s * 1e6, 0, DAY_US - 1)
    flows["src_port"] = ephemeral_ports(rng, ends_s.size)
    flows["protocol"], flows["state"] = TCP, ESTABLISHED
    flows["service"] = UNKNOWN if service is None else SERVICES.index(service)
    flows["label"] = LABELS.index(kind)
    return flows


def _probe(flows: Flows, unanswered: float, accepted: float, rng: np.random.Generator) -> None:
    """Let TCP probes meet silence, an open port, or, most often, a reset."""
    luck = rng.random(len(flows))
    set_volume(flows, np.ones(len(flows)), np.ones(len(flows)), 1400)
    flows["duration"] = lognormal(rng, 0.02, 0.5, len(flows))
    set_unanswered(flows, luck < unanswered, rng)
    set_rejected(flows, luck >= unanswered + accepted, rng)
