"""What the hosts of the synthetic site do all day, as one readable table.

Sizes are payload bytes, given as median and sigma of a lognormal (sigma 1 puts the 99th percentile
at ten times the median). They are plausible for an office of this size, not fitted to any capture.
"""

from dataclasses import dataclass
from typing import Literal

Spread = tuple[float, float]
"""Median and sigma of a lognormal."""

Profile = Literal["present", "office", "always", "night", "morning"]
"""When: while the person is there; by the office's hours; all day; 1 to 4 h; 8 to 10 h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One kind of flow that every host of a role opens now and then."""

    name: str
    clients: str  # a role of the site
    servers: str  # the role where the flows go; the first hosts of a pool are the popular ones
    ports: tuple[int, ...]  # of the server, each as likely; empty: the protocol has none
    per_hour: float  # flows of one host in a full hour
    request: Spread
    reply: Spread | None  # None: nothing ever comes back
    protocol: Literal["tcp", "udp", "icmp"] = "tcp"
    service: str | None = None
    profile: Profile = "present"
    burst: float = 1.0  # mean number of flows that come together
    periodic: bool = False  # at fixed intervals, by a clock
    client_port: int | None = None  # None: an ephemeral one
    wait: Spread = (0.05, 1.0)  # seconds beyond the transfer itself
    speed: Spread = (4e6, 0.8)  # bytes/s
    segment: int = 1400  # payload bytes of a full packet
    attempted: float = 0.0  # shares of flows that fail, and how
    rejected: float = 0.0
    reset: float = 0.0


ACTIVITIES: tuple[Activity, ...] = (
    # Names and web: most flows of an office, in bursts, through resolver and proxy.
    Activity(
        name="dns lookup", clients="workstation", servers="dns", ports=(53,), protocol="udp", service="dns",
        per_hour=48, burst=3, request=(38, 0.25), reply=(110, 0.5), wait=(0.004, 1.5), attempted=0.004,
    ),
    Activity(
        name="dns recursion", clients="dns", servers="internet-dns", ports=(53,), protocol="udp",
        service="dns", per_hour=240, burst=2, profile="office", request=(42, 0.25), reply=(160, 0.6),
        wait=(0.025, 0.8), attempted=0.01,
    ),
    Activity(
        name="web by proxy", clients="workstation", servers="proxy", ports=(3128,), service="http",
        per_hour=54, burst=5, request=(1_900, 0.9), reply=(14_000, 1.6), wait=(0.3, 1.6), speed=(3e6, 1.0),
        reset=0.006, rejected=0.0005,
    ),
    Activity(
        name="proxy fetch", clients="proxy", servers="internet-web", ports=(443, 443, 443, 80),
        service="ssl", per_hour=1_750, burst=4, profile="office", request=(1_800, 0.9), reply=(13_000, 1.6),
        wait=(0.35, 1.5), speed=(2e6, 1.0), reset=0.01, attempted=0.004, rejected=0.001,
    ),
    Activity(
        name="intranet", clients="workstation", servers="app", ports=(443,), service="ssl", per_hour=14,
        burst=3, request=(2_400, 0.8), reply=(22_000, 1.3), wait=(0.1, 1.4), reset=0.002,
    ),
    Activity(
        name="visitor", clients="internet-clients", servers="web", ports=(443, 443, 80), service="ssl",
        per_hour=0.25, burst=3, profile="office", request=(1_500, 0.8), reply=(24_000, 1.4), wait=(0.4, 1.4),
        speed=(1e6, 1.0), reset=0.02,
    ),
    # Mail.
    Activity(
        name="read mail", clients="workstation", servers="mail", ports=(993,), service="ssl", per_hour=6,
        request=(1_400, 0.6), reply=(9_000, 1.7), wait=(1.5, 1.5), reset=0.004,
    ),
    Activity(
        name="send mail", clients="workstation", servers="mail", ports=(587,), service="smtp", per_hour=1.5,
        request=(9_000, 1.9), reply=(900, 0.3), wait=(0.6, 0.7),
    ),
    Activity(
        name="mail out", clients="mail", servers="internet-mail", ports=(25,), service="smtp", per_hour=45,
        profile="office", request=(11_000, 1.9), reply=(1_000, 0.3), wait=(1.2, 0.8), attempted=0.02,
        rejected=0.01,
    ),
    Activity(
        name="mail in", clients="internet-mail", servers="mail", ports=(25,), service="smtp", per_hour=3,
        profile="office", request=(13_000, 1.8), reply=(1_100, 0.3), wait=(1.4, 0.8), reset=0.03,
    ),
    # Files, paper, meetings.
    Activity(
        name="files", clients="workstation", servers="files", ports=(445,), service="smb", per_hour=8,
        burst=2, request=(6_000, 1.7), reply=(30_000, 2.2), wait=(4.0, 1.6), speed=(2e7, 0.7),
    ),
    Activity(
        name="printing", clients="workstation", servers="printer", ports=(9100,), per_hour=0.6,
        request=(350_000, 1.3), reply=(400, 0.4), wait=(2.0, 0.7), speed=(1e6, 0.5), rejected=0.03,
    ),
    Activity(
        name="video call", clients="workstation", servers="video", ports=(3478, 8801), protocol="udp",
        per_hour=0.3, request=(6e7, 0.9), reply=(1.2e8, 0.9), wait=(8.0, 0.6), speed=(1.6e5, 0.4),
        segment=1050,
    ),
    # Running the site.
    Activity(
        name="admin ssh", clients="admin", servers="servers", ports=(22,), service="ssh", per_hour=5,
        request=(7_000, 1.3), reply=(16_000, 1.6), wait=(60.0, 1.8), rejected=0.01,
    ),
    Activity(
        name="sftp from outside", clients="internet-partners", servers="gateway", ports=(22,), service="ssh",
        per_hour=1.0, profile="office", request=(40_000, 1.9), reply=(9_000, 1.2), wait=(3.0, 1.0),
    ),
    Activity(
        name="scheduled ssh", clients="monitor", servers="servers", ports=(22,), service="ssh", per_hour=12,
        profile="always", request=(3_200, 0.2), reply=(4_500, 0.4), wait=(0.8, 0.4),
    ),
    Activity(
        name="monitoring", clients="monitor", servers="servers", ports=(161,), protocol="udp", service="snmp",
        per_hour=240, profile="always", periodic=True, request=(85, 0.1), reply=(210, 0.4), wait=(0.003, 0.6),
        attempted=0.002,
    ),
    Activity(
        name="ping", clients="monitor", servers="everyone", ports=(), protocol="icmp", per_hour=120,
        profile="always", periodic=True, request=(168, 0.01), reply=(168, 0.01), wait=(2.0, 0.05),
        segment=56, attempted=0.1,
    ),
    Activity(
        name="clock", clients="everyone", servers="dns", ports=(123,), protocol="udp", service="ntp",
        per_hour=3.5, profile="always", periodic=True, client_port=123, request=(48, 0.0), reply=(48, 0.0),
        wait=(0.001, 0.5),
    ),
    Activity(
        name="clock of the site", clients="dns", servers="internet-ntp", ports=(123,), protocol="udp",
        service="ntp", per_hour=7, profile="always", periodic=True, client_port=123, request=(48, 0.0),
        reply=(48, 0.0), wait=(0.02, 0.5), attempted=0.01,
    ),
    Activity(
        name="log lines", clients="servers", servers="monitor", ports=(514,), protocol="udp",
        service="syslog", per_hour=10, profile="always", request=(700, 1.1), reply=None, wait=(20.0, 0.8),
    ),
    Activity(
        name="local discovery", clients="workstation", servers="multicast", ports=(5353,), protocol="udp",
        service="dns", per_hour=3, client_port=5353, request=(160, 0.6), reply=None, wait=(1.5, 1.0),
    ),
    Activity(
        name="backup", clients="servers", servers="backup", ports=(873,), per_hour=3, profile="night",
        request=(1.2e9, 1.1), reply=(400_000, 0.9), wait=(20.0, 0.8), speed=(3e7, 0.4),
    ),
    Activity(
        name="updates", clients="everyone", servers="internet-updates", ports=(443,), service="ssl",
        per_hour=1.2, burst=2, profile="morning", request=(4_000, 0.8), reply=(3e6, 1.9), wait=(1.0, 1.0),
        speed=(4e6, 0.7),
    ),
    # Strangers who try a door of whatever has a public address: everyone's daily noise.
    Activity(
        name="noise from outside", clients="internet-strangers", servers="public",
        ports=(22, 23, 80, 445, 3389, 8080), per_hour=0.12, profile="always", request=(1, 0.0),
        reply=(1, 0.0), attempted=0.85, rejected=0.15,
    ),
)  # fmt: skip
