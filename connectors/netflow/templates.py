"""Templates: which field stands where in the records of a data set."""

import struct
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakValueDictionary

V9, IPFIX = 9, 10

VARIABLE = 65_535
"""Size of a field whose length stands before each of its values."""

SCOPE = -1
"""In place of an enterprise number: a scope field of NetFlow v9, which has numbers of its own."""

TEXT_SIZE = 32
"""Bytes kept of a text of variable length, and of an address."""

MOST_FIELDS = 1000
"""Fields of a template; the longest known ones have about a hundred."""

Key = tuple[int, int]
"""Enterprise number (0: IANA's elements) and element."""

SRC_V4, DST_V4, SRC_V6, DST_V6 = (0, 8), (0, 12), (0, 27), (0, 28)
APPLICATION_NAME = (0, 96)

_REVERSE = 29_305
SRC_BYTES: tuple[Key, ...] = ((0, 231), (0, 1), (0, 85), (0, 352))
SRC_PACKETS: tuple[Key, ...] = ((0, 298), (0, 2), (0, 86))
DST_BYTES: tuple[Key, ...] = ((0, 232), (_REVERSE, 1), (_REVERSE, 85), (_REVERSE, 352))
DST_PACKETS: tuple[Key, ...] = ((0, 299), (_REVERSE, 2), (_REVERSE, 86))
OUT_BYTES, OUT_PACKETS = (0, 23), (0, 24)

ALL_OF_A_KIND = {2: False, 3: True}
"""Numbers that take back all templates of data, or all of options."""

_PAIR = struct.Struct("!HH")


class TemplateError(Exception):
    """A template that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record."""

    enterprise: int
    element: int
    size: int  # bytes, or VARIABLE


@dataclass(frozen=True, eq=False, kw_only=True)
class Template:
    """The fields of a record in order.

    Records with variable fields are copied into a fixed layout when they are read, with the fields
    whose size is fixed and the first bytes of texts; `places` and `size` are those of that layout.
    """

    id: int
    version: int
    fields: tuple[Field, ...]
    n_scope: int = 0  # more than 0: records of options, about the exporter itself

    @property
    def meaning(self) -> Hashable:
        """What equal templates have in common."""
        return self.version, self.id, self.n_scope, self.fields

    @cached_property
    def is_variable(self) -> bool:
        """Whether the length of a record differs from one to the next."""
        return any(f.size == VARIABLE for f in self.fields)

    @cached_property
    def least(self) -> int:
        """Fewest bytes of a record."""
        return sum(1 if f.size == VARIABLE else f.size for f in self.fields)

    @cached_property
    def size(self) -> int:
        """Bytes of a record in the fixed layout."""
        return sum(self.kept)

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """Bytes that each field has in the fixed layout."""
        return tuple(_kept(f) for f in self.fields)

    @cached_property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Fields as (size, kept bytes), those of fixed size that follow each other as one."""
        runs: list[tuple[int, int]] = []
        for f, kept in zip(self.fields, self.kept, strict=True):
            if f.size != VARIABLE and runs and runs[-1][0] != VARIABLE:
                runs[-1] = (runs[-1][0] + f.size, runs[-1][1] + kept)
            else:
                runs.append((f.size, kept))
        return tuple(runs)

    @cached_property
    def places(self) -> dict[Key, slice]:
        """Where each element stands in the fixed layout; of repeated ones the first."""
        places: dict[Key, slice] = {}
        at = 0
        for f, size in zip(self.fields, self.kept, strict=True):
            if size:
                places.setdefault((f.enterprise, f.element), slice(at, at + size))
            at += size
        return places

    @cached_property
    def is_flow(self) -> bool:
        """Whether records have two addresses and a counter: all else is no flow."""
        return self.n_scope == 0 and (self.has_v4 or self.has_v6) and bool(self._counters)

    @cached_property
    def has_v4(self) -> bool:
        """Whether records have IPv4 addresses."""
        return self._width(SRC_V4) == self._width(DST_V4) == 4

    @cached_property
    def has_v6(self) -> bool:
        """Whether records have IPv6 addresses."""
        return self._width(SRC_V6) == self._width(DST_V6) == 16

    @cached_property
    def _counters(self) -> list[Key]:
        keys = (*SRC_BYTES, *SRC_PACKETS, OUT_BYTES, OUT_PACKETS)
        return [key for key in keys if 0 < self._width(key) <= 8]

    def _width(self, key: Key) -> int:
        place = self.places.get(key)
        return place.stop - place.start if place else 0


def _kept(f: Field) -> int:
    if f.size != VARIABLE:
        return f.size
    return TEXT_SIZE if (f.enterprise, f.element) == APPLICATION_NAME else 0


# Cisco's record of NetFlow v5, in the elements of v9; 210 is padding.
_V5_FIELDS = (
    (8, 4), (12, 4), (15, 4), (10, 2), (14, 2), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2),
    (210, 1), (6, 1), (4, 1), (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (210, 2),
)  # fmt: skip
V5_TEMPLATE = Template(id=5, version=5, fields=tuple(Field(0, *pair) for pair in _V5_FIELDS))
V5_SIZE = V5_TEMPLATE.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """An IPFIX exporter takes a template back, or all of a kind (id 2: data, 3: options)."""

    id: int


def parse(version: int, set_id: int, body: bytes) -> Iterator[Template | Withdrawal]:
    """Yield the templates of a template set or options template set, and those taken back.

    Raises
    ------
    TemplateError
        At the first one that cannot be; its end is unknown, so nothing behind it is read.
    """
    options = set_id in (1, 3)
    read = _v9_options if version == V9 and options else _template
    at = 0
    while len(body) - at >= 4 and any(body[at:]):
        template, at = read(version, body, at, options=options)
        yield template


def _template(version: int, body: bytes, at: int, *, options: bool) -> tuple[Template | Withdrawal, int]:
    template_id, count = _PAIR.unpack_from(body, at)
    at += 4
    if version == IPFIX and count == 0 and (template_id >= 256 or template_id in ALL_OF_A_KIND):
        return Withdrawal(id=template_id), at
    n_scope = 0
    if options:
        n_scope = int.from_bytes(body[at : at + 2], "big")
        at += 2
        if not 0 < n_scope <= count:
            raise TemplateError(f"template {template_id} has {n_scope} scope fields of {count}")
    fields, at = _fields(version, body, at, count)
    return _checked(template_id, version, fields, n_scope), at


def _v9_options(version: int, body: bytes, at: int, *, options: bool) -> tuple[Template, int]:  # noqa: ARG001 (one form for both readers)
    template_id, scope_size = _PAIR.unpack_from(body, at)
    option_size = int.from_bytes(body[at + 4 : at + 6], "big")
    scope, at = _fields(version, body, at + 6, scope_size // 4)
    fields, at = _fields(version, body, at, option_size // 4)
    scope = [Field(SCOPE, f.element, f.size) for f in scope]
    # Options without a scope are against the rules, and sent by some: they are still no flows.
    return _checked(template_id, version, [*scope, *fields], max(1, len(scope))), at


def _fields(version: int, body: bytes, at: int, count: int) -> tuple[list[Field], int]:
    if count > MOST_FIELDS or len(body) - at < 4 * count:
        raise TemplateError(f"{count} fields where {max(0, len(body) - at)} bytes are left, 4 a field")
    fields: list[Field] = []
    for _ in range(count):
        if len(body) - at < 4:
            raise TemplateError(f"the set ends after {len(fields)} fields of {count}")
        element, size = _PAIR.unpack_from(body, at)
        at += 4
        enterprise = 0
        if version == IPFIX and element & 0x8000:
            element, enterprise = element & 0x7FFF, int.from_bytes(body[at : at + 4], "big")
            at += 4
        fields.append(Field(enterprise, element, size))
    return fields, at


def _checked(template_id: int, version: int, fields: list[Field], n_scope: int) -> Template:
    if template_id < 256:
        raise TemplateError(f"template {template_id}, expected 256 or more")
    template = Template(id=template_id, version=version, fields=tuple(fields), n_scope=n_scope)
    if template.least == 0:
        raise TemplateError(f"template {template_id} has records of no bytes")
    return template


class TemplateCache:
    """The templates in use, bounded by their fields in all: the least recently used go first."""

    def __init__(self, most_fields: int) -> None:
        # Equal templates of many exporters are one object: their records are decoded together.
        self._shared: WeakValueDictionary[Hashable, Template] = WeakValueDictionary()
        self._most = most_fields
        self._n_fields = 0
        self._templates: OrderedDict[tuple[Hashable, int], Template] = OrderedDict()
        self._ids: dict[Hashable, set[int]] = {}

    def __len__(self) -> int:
        return len(self._templates)

    def get(self, stream: Hashable, template_id: int) -> Template | None:
        """Return a template of a stream, or None if it is not known."""
        template = self._templates.get((stream, template_id))
        if template is not None:
            self._templates.move_to_end((stream, template_id))
        return template

    def put(self, stream: Hashable, template: Template) -> Template:
        """Keep a template, in place of one with the same number; return the object that stands for it."""
        template = self._shared.setdefault(template.meaning, template)
        if self.get(stream, template.id) is template:
            return template
        self.drop(stream, template.id)
        self._templates[stream, template.id] = template
        self._ids.setdefault(stream, set()).add(template.id)
        self._n_fields += len(template.fields)
        while self._n_fields > self._most and len(self._templates) > 1:
            self.drop(*next(iter(self._templates)))
        return template

    def drop(self, stream: Hashable, template_id: int) -> None:
        """Forget a template."""
        template = self._templates.pop((stream, template_id), None)
        if template is not None:
            self._n_fields -= len(template.fields)
            self._ids[stream].discard(template_id)
            if not self._ids[stream]:
                del self._ids[stream]

    def drop_all(self, stream: Hashable, *, options: bool | None = None) -> None:
        """Forget the templates of a stream: all, or only those of options, or only those of data."""
        for template_id in list(self._ids.get(stream, ())):
            if options in (None, self._templates[stream, template_id].n_scope > 0):
                self.drop(stream, template_id)
