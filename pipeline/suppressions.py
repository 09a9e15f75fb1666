"""Suppressions: which flagged flows make no alert, why, and until when on the lane clock.

They are read by the detect stage, which writes into each flagged row whether one matches: so the log
says what was suppressed, whoever reads it, and a restart or a changed file decides nothing anew.
"""

import hashlib
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from connectors.checked_yaml import mistakes, read_yaml
from connectors.errors import ConnectorError
from pipeline.errors import SettingsError
from pipeline.group_keys import codes

MOST_ENTRIES = 256
"""Each one is a label of a metric, and is compared with every flagged row."""

Mask = npt.NDArray[np.bool_]
Network = IPv4Network | IPv6Network


def _network(value: Any) -> Network:
    """Return a network as people write it, or a single address."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.80} is no text; write an address or a network, as 10.0.0.0/8")  # noqa: TRY004 pydantic's
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f"{error}; expected an address as 10.0.0.5 or a network as 10.0.0.0/8") from None


def _one_line(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError(f"{value!r:.80} is not one line of printable text without blanks around it")
    return value


Addresses = Annotated[Network | None, BeforeValidator(_network)]
Line = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]


class Suppressed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a flagged row says of the suppression that it matches."""

    id: str  # of the entry as it was written: what it asks, why, from when and until when
    reason: str
    until: str = ""  # RFC 3339

    def to_json(self) -> str:
        """Return JSON, the same bytes for the same entry."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Suppressed":
        """Read what `to_json` wrote."""
        return msgspec.json.decode(text, type=cls)

    @property
    def label(self) -> str:
        """The reason as a label of a metric.

        Examples
        --------
        >>> Suppressed(id="", reason="The team's scanner (10.0.0.5)").label
        'the_team_s_scanner_10_0_0_5'
        """
        return re.sub(r"[^a-z0-9]+", "_", self.reason.lower()).strip("_")[:40] or "other"


class Suppression(BaseModel):
    """One entry: a flagged flow that meets all of its conditions makes no alert.

    Examples
    --------
    >>> Suppression(reason="scanner", entity="10.0.0.5", until="2026-03-01T00:00:00Z").said.until
    '2026-03-01T00:00:00Z'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Line  # why; mandatory, and in metric, summary and log
    entity: Addresses = None  # whom the anomaly concerns; of a pair either one
    source: Addresses = None
    destination: Addresses = None
    sensor: Line | None = None
    leading: Line | None = None  # weir.leading of an alert, as noise_direction:n3
    feature: Line | None = None  # of a leading term that is named after one; noise directions are not
    port: Annotated[int, Field(ge=0, le=65_535, strict=True)] | None = None  # of the destination
    protocol: Line | None = None
    begins: AwareDatetime | None = Field(default=None, alias="from")  # on the lane clock, included
    until: AwareDatetime | None = None  # on the lane clock, not included

    @model_validator(mode="after")
    def _asks_something(self) -> "Suppression":
        if not any(getattr(self, name) is not None for name in CONDITIONS):
            raise ValueError(
                f"no condition, so nothing would be alerted; give one of {', '.join(CONDITIONS)}"
            )
        if self.begins and self.until and self.begins >= self.until:
            raise ValueError(f"from {_text(self.begins)} is not before until {_text(self.until)}")
        return self

    @property
    def said(self) -> Suppressed:
        """What matching rows say."""
        return Suppressed(id=self.id, reason=self.reason, until=_text(self.until) if self.until else "")

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that stand for this entry."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()[:16]

    def to_yaml(self) -> dict[str, Any]:
        """Return what `Suppression.model_validate` reads, without what is not given."""
        given = self.model_dump(by_alias=True, exclude_none=True)
        return {name: value if isinstance(value, int) else _plain(value) for name, value in given.items()}

    def matches(self, rows: pa.RecordBatch, distinct: "Distinct") -> Mask:
        """Return which rows of schema `FLAGGED` meet all conditions."""
        found = _within(rows, self.begins, self.until)
        for meets in self._asked(distinct):
            if found.any():
                found &= meets()
        return found

    def _asked(self, distinct: "Distinct") -> Iterator[Callable[[], Mask]]:
        """Yield for each condition what tells where it is met."""
        for column, network in (("src_ip", self.source), ("dst_ip", self.destination)):
            if network is not None:
                yield partial(distinct.inside, column, network)
        values = {
            "sensor": self.sensor,
            "leading": self.leading,
            "dst_port": self.port,
            "protocol": self.protocol,
        }
        for column, value in values.items():
            if value is not None:
                yield partial(distinct.equal, column, value)
        if self.feature is not None:
            yield partial(distinct.meets, "leading", _named_after(self.feature))
        if self.entity is not None:
            yield partial(_concerned, distinct, self.entity)


CONDITIONS = ("entity", "source", "destination", "sensor", "leading", "feature", "port", "protocol")


class Distinct:
    """The distinct values of some rows' columns, each looked at once."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self._rows = rows
        self._codes = cache(lambda name: codes(rows.column(name)))
        self._halves = cache(self._addresses)

    def equal(self, name: str, wanted: Any) -> Mask:
        """Return where a column has a value; null is none."""
        return self.meets(name, lambda value: bool(value == wanted))

    def meets(self, name: str, asked: Callable[[Any], bool]) -> Mask:
        """Return where a column has a value that is asked for; null is none."""
        of_row, values = self._codes(name)
        wanted = np.array([value is not None and asked(value) for value in values], dtype=np.bool_)
        return np.asarray(wanted[of_row])

    def inside(self, name: str, network: Network) -> Mask:
        """Return where a column of addresses lies in a network; null lies in none."""
        low, mask = _bits(network)
        halves, known = self._halves(name)
        found = known & ((halves[0] & mask[0]) == low[0]) & ((halves[1] & mask[1]) == low[1])
        return np.asarray(found[self._codes(name)[0]])

    def _addresses(self, name: str) -> tuple[npt.NDArray[np.uint64], Mask]:
        """Return the distinct addresses as two numbers each, shape (2, k), and which are not null."""
        values = self._codes(name)[1]
        whole = b"".join(value if isinstance(value, bytes) else bytes(16) for value in values)
        known = np.array([value is not None for value in values], dtype=np.bool_)
        return np.frombuffer(whole, dtype=">u8").reshape(-1, 2).T.astype(np.uint64), known


def _bits(network: Network) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return the fixed bits of the addresses in a network, IPv4 mapped, and which bits those are."""
    low = int(network.network_address) | (0xFFFF << 32 if network.version == 4 else 0)
    free = network.max_prefixlen - network.prefixlen
    mask = (1 << 128) - (1 << free)
    return _halves(low), _halves(mask)


def _halves(number: int) -> npt.NDArray[np.uint64]:
    return np.frombuffer(number.to_bytes(16), dtype=">u8").astype(np.uint64)


def _named_after(feature: str) -> Callable[[str], bool]:
    """Return whether a leading term is named after a feature, or after a category of it."""
    return lambda leading: (
        not leading.startswith("noise_direction:")
        # residual:src_bytes, residual:udp:src_bytes or node:service=http
        and leading.partition("=")[0].rpartition(":")[2] == feature
    )  # fmt: skip


def _concerned(distinct: Distinct, network: Network) -> Mask:
    """Return where whom the anomaly concerns lies in a network; of a pair either one."""
    src, dst = distinct.inside("src_ip", network), distinct.inside("dst_ip", network)
    of_dst, of_pair = distinct.equal("about", "dst"), distinct.equal("about", "pair")
    return np.asarray(np.where(of_dst, dst, src | (of_pair & dst)))


def _within(rows: pa.RecordBatch, begins: datetime | None, until: datetime | None) -> Mask:
    clock = rows.column("clock_us").to_numpy()
    found = np.ones(rows.num_rows, dtype=np.bool_)
    if begins is not None:
        found &= clock >= _us(begins)
    if until is not None:
        found &= clock < _us(until)
    return found


def _us(time: datetime) -> int:
    return round((time - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6)


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _plain(value: Any) -> str:
    return _text(value) if isinstance(value, datetime) else str(value)


@dataclass(frozen=True, slots=True)
class Suppressions:
    """The entries of a file; the first one that matches counts."""

    entries: tuple[Suppression, ...] = ()

    def of_rows(self, rows: pa.RecordBatch) -> pa.Array:
        """Return for each row of schema `FLAGGED` the JSON of `Suppressed`, null where none matches."""
        if not self.entries:
            return pa.nulls(rows.num_rows, pa.string())
        which = np.full(rows.num_rows, -1)
        distinct = Distinct(rows)
        for index, entry in reversed(tuple(enumerate(self.entries))):
            which[entry.matches(rows, distinct)] = index
        texts = pa.array([entry.said.to_json() for entry in self.entries], pa.string())
        return texts.take(pa.array(which, mask=which < 0))


NOTHING_SUPPRESSED = Suppressions()


def is_suppressed(rows: pa.RecordBatch) -> Mask:
    """Return which flagged rows make no alert; logs of earlier versions suppress none."""
    if "suppressed" not in rows.schema.names:
        return np.zeros(rows.num_rows, dtype=np.bool_)
    return np.asarray(pc.is_valid(rows.column("suppressed")).to_numpy(zero_copy_only=False), dtype=np.bool_)


def suppressed_by(rows: pa.RecordBatch) -> dict[str, int]:
    """Return how many flagged rows each suppression keeps back, by its label."""
    found: Counter[str] = Counter()
    if is_suppressed(rows).any():
        counts = pc.value_counts(rows.column("suppressed").drop_null()).to_pylist()
        for count in counts:
            found[Suppressed.from_json(count["values"]).label] += count["counts"]
    return dict(found)


def load_suppressions(path: Path | None) -> Suppressions:
    """Return the entries of a YAML file with a list `suppressions`; none where no file is named.

    Raises
    ------
    SettingsError
        With every mistake and its dotted path.
    """
    if path is None:
        return Suppressions()
    entries, problems = _read(path)
    if problems:
        raise SettingsError("wrong suppressions:\n" + "\n".join(f"  {problem}" for problem in problems))
    return Suppressions(tuple(entries))


def lint_suppressions(path: Path) -> list[str]:
    """Return every mistake of a file of suppressions, each with the file and its dotted path."""
    try:
        return _read(path)[1]
    except SettingsError as error:
        return [str(error)]


def append_suppression(path: Path, conditions: Mapping[str, Any]) -> Suppression:
    """Append an entry to a file, which is made if it is not there, and leave all else as it stands.

    Raises
    ------
    SettingsError
        If the entry or the file is wrong, or the file is not written as a list that can be appended to.
    """
    before = load_suppressions(path).entries if path.exists() else ()
    try:
        entry = Suppression.model_validate(conditions)
    except ValidationError as error:
        problems = (_dotted(text).lstrip(".: ") for _, text in mistakes(error, Suppression))
        raise SettingsError(
            "wrong suppression:\n" + "\n".join(f"  {problem}" for problem in problems)
        ) from None
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    grown = path.with_name(path.name + ".new")
    grown.write_text(_grown(text, entry, is_first=not before), encoding="utf-8")
    try:
        if not _holds(grown, [*before, entry]):
            raise SettingsError(
                f"{path} is no plain list '- reason: ...' below 'suppressions:'; add it by hand"
            )
        grown.replace(path)
    finally:
        grown.unlink(missing_ok=True)
    return entry


def _holds(path: Path, entries: list[Suppression]) -> bool:
    try:
        return _read(path) == (entries, [])
    except SettingsError:
        return False


def _grown(text: str, entry: Suppression, *, is_first: bool) -> str:
    """Return the file's text with one entry more, indented like those before it."""
    if is_first and not re.search(r"^suppressions:\s*$", text, re.MULTILINE):
        text = text.replace("suppressions: []", "suppressions:", 1)
        text = text if "suppressions:" in text else f"{text}suppressions:\n"
    found = re.search(r"^( *)- ", text, re.MULTILINE)
    indent = found[1] if found else "  "
    text = text if text.endswith("\n") else text + "\n"
    return text + textwrap.indent(
        yaml.safe_dump([entry.to_yaml()], sort_keys=False, allow_unicode=True), indent
    )


def _read(path: Path) -> tuple[list[Suppression], list[str]]:
    try:
        values = read_yaml(path, "suppressions")
    except ConnectorError as error:
        raise SettingsError(f"alerts.suppressions: {error}") from error
    listed = values.get("suppressions") if isinstance(values, Mapping) and len(values) == 1 else None
    if not isinstance(listed, list):
        if values is None or (isinstance(values, Mapping) and values == {"suppressions": None}):
            return [], []
        return [], [f"{path}: holds {str(values)[:40]!r}, expected one list: suppressions"]
    if len(listed) > MOST_ENTRIES:
        return [], [f"{path}: suppressions: {len(listed)} entries, at most {MOST_ENTRIES}; use networks"]
    entries: list[Suppression] = []
    problems: list[str] = []
    for index, entry in enumerate(listed):
        try:
            entries.append(Suppression.model_validate(entry))
        except ValidationError as error:
            where = f"{path}: suppressions[{index}]"
            problems += [f"{where}{_dotted(text)}" for _, text in mistakes(error, Suppression)]
    return entries, problems


def _dotted(text: str) -> str:
    return text.removeprefix("settings") if text.startswith("settings:") else f".{text}"
