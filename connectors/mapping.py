"""The mapping file: which value of a JSON object becomes which column of a flow, and in which unit.

Everything in it is checked when it is loaded, and every mistake is told at once with its dotted path.
`docs/examples/flows-mapping.yaml` explains it line by line.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from connectors.checked_yaml import mistakes, parse_yaml, read_yaml, unknown
from connectors.errors import ConnectorError, SourceError
from connectors.json_columns import COLUMNS, MUST_SAY, TEXTS, UNITS, read
from connectors.json_paths import UNUSABLE, Path_, conflicts
from connectors.json_values import Values
from connectors.kafka_settings import KafkaSettings
from connectors.records import STATES

PRESETS = ("ecs", "eve", "goflow2", "packetbeat", "zeek")
"""Mappings that come with weir: of Filebeat, Suricata, goflow2, Packetbeat and Zeek."""

Word = str | int | float | bool


class Place(BaseModel):
    """Where the values of one column stand, and how they are to be read.

    Examples
    --------
    >>> Place.model_validate("event.duration, ns").path
    ('event', 'duration')
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    path: Path_ = Field(default=(), description="Keys from the object inwards, as a.b.c or as a list.")
    unit: str = Field(default="", description="Unit of the values.")
    default: Any = Field(default=None, description="Value where there is none at the path.")
    values: Mapping[str, str] = Field(
        default_factory=dict, description="The source's words, in any case, and ours; * for all others."
    )
    otherwise: "Place | None" = Field(
        default=None, alias="or", description="Where to look if nothing is here."
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        """Take `path, unit` on one line as well, and the keys of a path."""
        if isinstance(given, list):
            return {"path": given}
        if not isinstance(given, str):
            return given
        path, _, unit = given.partition(",")
        return {"path": path.strip(), "unit": unit.strip()}

    @field_validator("path", mode="before")
    @classmethod
    def _split(cls, given: Any) -> Any:
        parts = re.split(r"(?<!\\)\.", given) if isinstance(given, str) else given
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"{given!r:.80} is no path; write a.b.c, or a list of keys")
        keys = tuple(part.replace("\\.", ".") for part in parts)
        if not keys or not all(keys):
            raise ValueError(f"{given!r:.80} is no path: a key is empty; write a.b.c, or a list of keys")
        if UNUSABLE.intersection("".join(keys)):
            raise ValueError(
                f"{given!r:.80} holds a quote, a backslash or a control character; rename the key"
            )
        return keys

    @field_validator("default")
    @classmethod
    def _is_plain(cls, given: Any) -> Any:
        if given is not None and not isinstance(given, Word):
            raise ValueError(f"{given!r:.80} is no default; give a text or a number")
        return given

    @field_validator("values", mode="before")
    @classmethod
    def _words(cls, given: Any) -> Any:
        """YAML reads some words as numbers and truth values; matching is by their text in lower case."""
        if not isinstance(given, Mapping):
            return given
        return {_text(word): _text(ours) for word, ours in given.items()}

    @model_validator(mode="after")
    def _has_something(self) -> "Place":
        if not self.path and self.default is None:
            raise ValueError("neither a path nor a default; give one")
        return self

    def chain(self) -> Iterator["Place"]:
        """Yield this place and those to look at after it."""
        yield self
        if self.otherwise is not None:
            yield from self.otherwise.chain()


def _text(word: object) -> str:
    return str(word).lower() if isinstance(word, bool) else str(word)


class _Document(BaseModel):
    """A mapping file as it is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str | None = None
    columns: dict[str, Any] = Field(default_factory=dict)
    sensor: str | None = Field(default=None, min_length=1)
    one_way: bool = False
    where: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kafka: KafkaSettings | None = None

    @field_validator("preset")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None and name not in PRESETS:
            raise ValueError(unknown(name, PRESETS, "preset"))
        return name


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowMapping:
    """How JSON objects become flows of type conn@1; made by `load_mapping`."""

    columns: Mapping[str, Place]
    where: Mapping[Path_, tuple[str, ...]]  # only objects with one of these words at each path are flows
    sensor: str | None = None  # where the objects do not say
    one_way: bool = False
    notes: tuple[str, ...] = ()
    kafka: KafkaSettings | None = None

    @property
    def paths(self) -> tuple[Path_, ...]:
        """All paths that are looked at."""
        places = (place.path for column in self.columns.values() for place in column.chain())
        return tuple(dict.fromkeys([*(path for path in places if path), *self.where]))

    @property
    def digest(self) -> bytes:
        """Names what the mapping does, however it is written."""
        columns = {name: self.columns[name].model_dump() for name in sorted(self.columns)}
        where = sorted((list(path), words) for path, words in self.where.items())
        told = json.dumps([columns, where, self.sensor, self.one_way], sort_keys=True)
        return hashlib.blake2b(told.encode(), digest_size=16).digest()


def load_mapping(source: Path | str) -> FlowMapping:
    """Return the mapping of a YAML file, or the one that comes with weir under a name in `PRESETS`.

    Raises
    ------
    SourceError
        With every mistake and its dotted path.
    """
    values = _preset(source) if source in PRESETS else _values(Path(source))
    mapping, found = _checked(values)
    if mapping is None:
        raise SourceError(f"wrong mapping {source}:\n" + "\n".join(f"  {mistake}" for mistake in found))
    return mapping


def lint_mapping(source: Path | Mapping[str, Any]) -> list[str]:
    """Return every mistake of a mapping, each with its dotted path.

    Examples
    --------
    >>> lint_mapping({"preset": "goflow2", "columns": {"duration": "took, sec", "src_ipp": "a"}})
    ['columns.duration.unit: sec is no unit ...', 'columns.src_ipp: unknown column; did you mean src_ip?']
    """
    try:
        return _checked(_values(source) if isinstance(source, Path) else source)[1]
    except SourceError as error:
        return [str(error)]


def _values(path: Path) -> Any:
    try:
        return read_yaml(path, "a mapping")
    except ConnectorError as error:
        known = ", ".join(PRESETS)
        raise SourceError(f"{error}, or one of the names {known}") from error


def _preset(name: Path | str) -> Any:
    text = (resources.files("connectors") / "mappings" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_yaml(text, f"preset {name}")


def _checked(values: Any) -> tuple[FlowMapping | None, list[str]]:
    """Return the mapping, or None, and everything that is wrong with it."""
    if not isinstance(values, Mapping):
        return None, [f"a {type(values).__name__}, expected the sections of a mapping: columns, where ..."]
    document, found = _document(_resolved({str(key): value for key, value in values.items()}))
    columns, wrong = _places(document.columns)
    where, odd = _conditions(document.where)
    mapping = FlowMapping(
        columns=columns,
        where=where,
        sensor=document.sensor,
        one_way=document.one_way,
        notes=document.notes,
        kafka=document.kafka,
    )
    missing = _missing(mapping, document.columns) if document.columns or not found else ()
    found += [*wrong, *odd, *missing, *_clashes(mapping)]
    return (None if found else mapping), found


def _resolved(values: dict[str, Any]) -> dict[str, Any]:
    """Return a document with its preset, and that one's, written out; a column that is null is taken away."""
    name = values.get("preset")
    if name not in PRESETS:
        return values
    while name in PRESETS:
        preset = _preset(name)
        columns = values.get("columns") or {}
        if not isinstance(columns, Mapping):
            return values
        values = {**preset, **values, "columns": {**preset["columns"], **columns}}
        name = preset.get("preset")
    kept = {column: place for column, place in values["columns"].items() if place is not None}
    return {**values, "columns": kept}


def _document(values: dict[str, Any]) -> tuple[_Document, list[str]]:
    """Return the parts of a document that are as they should be, and what is wrong with the others."""
    try:
        return _Document.model_validate(values), []
    except ValidationError as error:
        found = mistakes(error, _Document)
    bad = {path[0] for path, _ in found}
    document = _Document.model_validate({key: value for key, value in values.items() if key not in bad})
    return document, [text for _, text in found]


def _places(columns: Mapping[str, Any]) -> tuple[dict[str, Place], list[str]]:
    places: dict[str, Place] = {}
    found: list[str] = []
    for name, given in columns.items():
        if name not in COLUMNS:
            found.append(f"columns.{name}: {unknown(name, COLUMNS, 'column')}")
            continue
        try:
            places[name] = Place.model_validate(given)
        except ValidationError as error:
            found += [f"columns.{name}{_behind(text)}" for _, text in mistakes(error, Place)]
        else:
            found += [text for place in places[name].chain() for text in _misused(name, place)]
    return places, found


def _behind(text: str) -> str:
    """Return a mistake as it stands behind the name of its column."""
    return text.removeprefix("settings") if text.startswith("settings:") else f".{text}"


def _misused(name: str, place: Place) -> Iterator[str]:
    """Yield what is wrong with a place that is well-formed, for the column it is to fill."""
    where, units = f"columns.{name}", UNITS.get(name, ())
    if place.unit and place.unit not in units:
        yield f"{where}.unit: {place.unit} {_no_unit(units)}"
    elif not place.unit and place.path and name in MUST_SAY:
        yield f"{where}.unit: missing; say one of {', '.join(units)}"
    elif place.default is not None and (fault := _wrong_default(name, place)):
        yield f"{where}.default: {fault}"
    if place.values and name not in TEXTS:
        yield f"{where}.values: words can be given for {', '.join(TEXTS)} only"
    if name == "state":
        wrong = sorted(set(place.values.values()) - set(STATES))
        yield from (f"{where}.values: {word} is none of {', '.join(STATES)}" for word in wrong)


def _no_unit(units: tuple[str, ...]) -> str:
    return f"is no unit of this column; say one of {', '.join(units)}" if units else "is given, expected none"


def _wrong_default(name: str, place: Place) -> str:
    values = Values({("default",): [place.default]}, 1)
    read(values, name, ("default",), place.unit)
    return values.faults[0][1].removeprefix("default ") if values.faults else ""


def _conditions(where: Mapping[str, Any]) -> tuple[dict[Path_, tuple[str, ...]], list[str]]:
    conditions: dict[Path_, tuple[str, ...]] = {}
    found: list[str] = []
    for path, given in where.items():
        words = given if isinstance(given, list) else [given]
        try:
            place = Place.model_validate({"path": path})
        except ValidationError as error:
            found += [f"where.{path}: {error.errors()[0]['ctx']['error']}"]
            continue
        if not words or not all(isinstance(word, Word) for word in words):
            found.append(f"where.{path}: {given!r:.80} is wrong; give a word or a list of words")
        conditions[place.path] = tuple(_text(word) for word in words)
    return conditions, found


def _missing(mapping: FlowMapping, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what no flow can do without; what is there, if wrong, is told of elsewhere."""
    timed = {name for name in ("event_time", "start_time", "duration") if name in given}
    if len(timed) < 2:
        lacking = "event_time" if "duration" in timed else "duration"
        yield f"columns.{lacking}: missing; give two of event_time (its end), start_time and duration"
    for name in ("src_bytes", "src_packets"):
        if name not in given:
            yield f"columns.{name}: missing; every flow needs it"
    for name in ("dst_bytes", "dst_packets"):
        if mapping.one_way and name in given:
            yield f"columns.{name}: given, but one_way says that records know one direction; keep one"
        if not mapping.one_way and name not in given:
            yield f"columns.{name}: missing; give it, or say one_way: true if records know one direction"


def _clashes(mapping: FlowMapping) -> Iterator[str]:
    for short, long in conflicts(mapping.paths):
        yield f"{'.'.join(long)}: {'.'.join(short)} is read as a value elsewhere; it cannot be both"
