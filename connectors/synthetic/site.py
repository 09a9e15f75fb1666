"""The hosts of the synthetic site and of the internet around it, drawn from a seed."""

from dataclasses import dataclass
from ipaddress import IPv4Address

import numpy as np
import numpy.typing as npt

Addresses = npt.NDArray[np.uint32]

SERVERS = {
    "dns": ("10.20.1.10", "10.20.1.11"),
    "mail": ("10.20.1.20",),
    "proxy": ("10.20.1.30",),
    "app": ("10.20.1.35",),
    "web": ("10.20.1.36",),
    "gateway": ("10.20.1.37",),
    "files": ("10.20.1.40",),
    "backup": ("10.20.1.41",),
    "printer": ("10.20.1.50", "10.20.1.51"),
    "video": ("10.20.1.60",),
    "monitor": ("10.20.1.70",),
}
PUBLIC = ("mail", "web", "gateway", "video")  # reachable from the internet
ADMINS = ("10.20.2.5", "10.20.2.6", "10.20.2.7")
WORKSTATIONS_FROM = "10.20.8.20"
MULTICAST = "224.0.0.251"

INTERNET = {
    "internet-web": 400,
    "internet-mail": 25,
    "internet-dns": 12,
    "internet-ntp": 4,
    "internet-updates": 6,
    "internet-clients": 1500,
    "internet-partners": 6,
    "internet-strangers": 200,
}
"""How many hosts of each kind the site ever deals with."""


def number(text: str) -> int:
    """Return an IPv4 address as a number."""
    return int(IPv4Address(text))


def text(address: int) -> str:
    """Return an IPv4 address as people write it."""
    return str(IPv4Address(address))


@dataclass(frozen=True, kw_only=True)
class Site:
    """Who there is: addresses by role."""

    roles: dict[str, Addresses]

    def one(self, role: str, rng: np.random.Generator) -> int:
        """Return one host of a role."""
        return int(rng.choice(self.roles[role]))


def build(seed: int, workstations: int) -> Site:
    """Return the site of a seed: the same one on every day."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    roles = {role: _numbers(hosts) for role, hosts in SERVERS.items()}
    first = number(WORKSTATIONS_FROM)
    outside = strangers(rng, sum(INTERNET.values()))
    cuts = np.cumsum(list(INTERNET.values()))[:-1]
    return Site(
        roles={
            **roles,
            "admin": _numbers(ADMINS),
            "workstation": np.arange(first, first + workstations, dtype=np.uint32),
            "multicast": _numbers((MULTICAST,)),
            "servers": np.concatenate(list(roles.values())),
            "public": np.concatenate([roles[role] for role in PUBLIC]),
            "everyone": np.concatenate(
                [*roles.values(), np.arange(first, first + workstations, dtype=np.uint32)]
            ),
            **dict(zip(INTERNET, np.split(outside, cuts), strict=True)),
        }
    )


def strangers(rng: np.random.Generator, n: int) -> Addresses:
    """Return public addresses: none private, multicast or reserved."""
    first = rng.integers(11, 223, n, dtype=np.uint32)
    # 100, 127, 169, 172, 192, 198 and 203 hold special ranges: their neighbours do as well.
    first += np.isin(first, [100, 127, 169, 172, 192, 198, 203])
    return first << np.uint32(24) | rng.integers(1, 2**24 - 1, n, dtype=np.uint32)


def _numbers(hosts: tuple[str, ...]) -> Addresses:
    return np.array([number(host) for host in hosts], dtype=np.uint32)
