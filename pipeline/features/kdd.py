"""What `nsl-kdd` and `kdd99` share: the features of the KDD columns.

Numbers that run over several powers of ten go through log1p; rates, and counts that stop at a few,
stay as they are. `su_attempted` is called binary by its authors and takes 0, 1 and 2: numeric here.
"""

from typing import Any

import numpy.typing as npt
import pyarrow as pa

from pipeline.features.arrays import codes, numbers, singles
from pipeline.features.base import Columns, Counts, Feature

PROTOCOLS = ("icmp", "tcp", "udp")
FLAGS = ("OTH", "REJ", "RSTO", "RSTOS0", "RSTR", "S0", "S1", "S2", "S3", "SF", "SH")
SERVICES = tuple(
    """
    IRC X11 Z39_50 aol auth bgp courier csnet_ns ctf daytime discard domain domain_u echo eco_i ecr_i
    efs exec finger ftp ftp_data gopher harvest hostnames http http_2784 http_443 http_8001 imap4
    iso_tsap klogin kshell ldap link login mtp name netbios_dgm netbios_ns netbios_ssn netstat nnsp nntp
    ntp_u other pm_dump pop_2 pop_3 printer private red_i remote_job rje shell smtp sql_net ssh sunrpc
    supdup systat telnet tftp_u tim_i time urh_i urp_i uucp uucp_path vmnet whois
    """.split()  # noqa: SIM905 - many names read better as text
)
"""The 70 services of the training sets; any other is the unknown category."""


def _log(name: str, text: str, *, unit: str = "") -> Feature:
    return Feature(name=name, transform="log1p", unit=unit, text=text)


def _plain(name: str, text: str, *, unit: str = "") -> Feature:
    return Feature(name=name, unit=unit, text=text)


def _yes_no(name: str, text: str) -> Feature:
    return Feature(name=name, kind="binary", text=text)


def _rate(name: str, text: str) -> Feature:
    return Feature(name=name, unit="ratio", text=text)


def _of_host(feature: Feature) -> Feature:
    """Mark a feature of the last 100 connections to the destination."""
    return Feature(
        name=feature.name,
        unit=feature.unit,
        about="dst",
        text=f"{feature.text} among the last 100 connections to the destination",
    )


CONTENT = (
    _log("duration", "duration", unit="s"),
    Feature(name="protocol_type", kind="categorical", vocabulary=PROTOCOLS, text="protocol"),
    Feature(name="service", kind="categorical", vocabulary=SERVICES, text="service"),
    Feature(name="flag", kind="categorical", vocabulary=FLAGS, text="how the connection ended"),
    _log("src_bytes", "bytes sent by the source", unit="bytes"),
    _log("dst_bytes", "bytes sent by the destination", unit="bytes"),
    _yes_no("land", "source and destination are the same address and port"),
    _plain("wrong_fragment", "wrong fragments"),
    _plain("urgent", "urgent packets"),
    _log("hot", "hot indicators"),
    _log("num_failed_logins", "failed logins"),
    _yes_no("logged_in", "logged in"),
    _log("num_compromised", "compromised conditions"),
    _yes_no("root_shell", "a root shell was obtained"),
    _plain("su_attempted", "attempts of su root"),
    _log("num_root", "accesses as root"),
    _log("num_file_creations", "files created"),
    _plain("num_shells", "shell prompts"),
    _log("num_access_files", "accesses to access control files"),
    _plain("num_outbound_cmds", "outbound commands in an ftp session"),
    _yes_no("is_host_login", "login of the host list"),
    _yes_no("is_guest_login", "guest login"),
)
RECENT = (
    _log("count", "connections to the same destination in the last 2 s"),
    _log("srv_count", "connections to the same service in the last 2 s"),
    _rate("serror_rate", "share with SYN errors of the connections to the destination in the last 2 s"),
    _rate("srv_serror_rate", "share with SYN errors of the connections to the service in the last 2 s"),
    _rate("rerror_rate", "share rejected of the connections to the destination in the last 2 s"),
    _rate("srv_rerror_rate", "share rejected of the connections to the service in the last 2 s"),
    _rate("same_srv_rate", "share to the same service of the last 2 s"),
    _rate("diff_srv_rate", "share to other services of the last 2 s"),
    _rate("srv_diff_host_rate", "share to other hosts of the last 2 s on the service"),
)
OF_HOST = (
    _plain("dst_host_count", "connections"),
    _plain("dst_host_srv_count", "connections to the same service"),
    _rate("dst_host_same_srv_rate", "share to the same service"),
    _rate("dst_host_diff_srv_rate", "share to other services"),
    _rate("dst_host_same_src_port_rate", "share from the same source port"),
    _rate("dst_host_srv_diff_host_rate", "share from other hosts to the same service"),
    _rate("dst_host_serror_rate", "share with SYN errors"),
    _rate("dst_host_srv_serror_rate", "share with SYN errors to the same service"),
    _rate("dst_host_rerror_rate", "share rejected"),
    _rate("dst_host_srv_rerror_rate", "share rejected to the same service"),
)
FEATURES = (*CONTENT, *RECENT, *map(_of_host, OF_HOST))


def compute(rows: pa.RecordBatch, _counts: Counts) -> Columns:
    """Return the 41 KDD columns as features; a yes/no column is 1 for any count above 0."""
    categories = {f.name: codes(rows, f.name, f.vocabulary) for f in FEATURES if f.kind == "categorical"}
    return {**singles({f.name: _number(rows, f) for f in FEATURES if f.name not in categories}), **categories}


def _number(rows: pa.RecordBatch, feature: Feature) -> npt.NDArray[Any]:
    values = numbers(rows, feature.name)
    return values > 0 if feature.kind == "binary" else values
