"""Live sources by their address: a log file to follow, a UDP port, a topic."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from connectors.base import Source
from connectors.errors import NotYetError, SourceError
from connectors.follow import Followed, Known
from connectors.kafka_settings import KafkaSettings
from connectors.kinds import JSON, KINDS, kind_names, open_file, recognise
from connectors.lines import TextFile
from connectors.source_lines import begins

FORMS = "the path of a log file, udp://HOST:PORT, or kafka://TOPIC"

Stream = Callable[[Known], Iterator[Source | None]]
"""The sources of a feed, one after another, None while there is none; it may ask whether an id is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Where flows come from, and how they are read."""

    address: str
    kind: str | None = None
    sensor: str | None = None
    mapping: str | None = None  # of JSON objects: a file, or the name of a preset
    rotated: str | None = None  # pattern of the files that a log is rotated to
    from_end: bool = False  # of a topic, at the first start


def open_live(live: Live, kafka: KafkaSettings) -> Sequence[Stream]:
    """Return the streams of a live source, to be read side by side.

    Raises
    ------
    SourceError
        If the address or an option of it makes no sense, or the port is taken.
    """
    scheme, separator, _ = live.address.partition("://")
    if not separator:
        return [_file(live)]
    if scheme == "udp":
        return [_datagrams(live)]
    if scheme == "kafka":
        return _topic(live, kafka)
    raise SourceError(f"{live.address}: no source of flows; expected {FORMS}")


def _file(live: Live) -> Stream:
    if live.kind is not None and live.kind not in kind_names():
        raise SourceError(f"no kind {live.kind!r}; expected one of {_followed_names()}")
    if live.kind is not None and not _is_followed(live.kind):
        raise _not_followed(live.address, live.kind)
    if not Path(live.address).absolute().parent.is_dir():
        raise SourceError(f"{live.address}: no such folder; expected {FORMS}")
    followed = Followed(Path(live.address), lambda file: _opened(file, live), rotated=live.rotated)
    return followed.sources


def _opened(file: TextFile, live: Live) -> Source:
    if file.grows and not begins(file.head()):
        raise NotYetError(f"{file.path}: no record yet")
    kind = JSON if live.mapping else live.kind or recognise(file)
    if not _is_followed(kind):
        raise _not_followed(str(file.path), kind)
    return open_file(file, kind=kind, sensor=live.sensor, mapping=live.mapping)


def _is_followed(kind: str) -> bool:
    return kind in KINDS and KINDS[kind].followed


def _not_followed(where: str, kind: str) -> SourceError:
    return SourceError(
        f"{where}: a file of kind {kind} is no log that grows, as those of {_followed_names()}; "
        "send it with weir replay"
    )


def _followed_names() -> str:
    return ", ".join(name for name, entry in KINDS.items() if entry.followed)


def _datagrams(live: Live) -> Stream:
    from connectors.source_netflow import NetflowSource

    parts = urlsplit(live.address)
    try:
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError:
        port = None
    if port is None:
        raise SourceError(f"{live.address}: no port, expected udp://HOST:PORT, as udp://127.0.0.1:2055")
    source = NetflowSource(host, port, sensor=live.sensor)
    return lambda _known: iter([source])


def _topic(live: Live, kafka: KafkaSettings) -> Sequence[Stream]:
    from connectors.mapping import load_mapping
    from connectors.source_topic import topic_sources

    topic = urlsplit(live.address).netloc
    if not topic or live.mapping is None:
        raise SourceError(
            f"{live.address}: a topic needs its name and a mapping, as kafka://flows --mapping flows.yaml"
        )
    sources = topic_sources(
        kafka, topic, load_mapping(live.mapping), sensor=live.sensor, from_end=live.from_end
    )
    return [_once(source) for source in sources]


def _once(source: Source) -> Stream:
    return lambda _known: iter([source])
