"""Values picked out of JSON objects by their paths, without building the rest of the objects."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from operator import attrgetter
from typing import Any

import msgspec

Path_ = tuple[str, ...]
"""Keys from the object inwards: ("source", "ip")."""

Fault = tuple[str, str]
"""Reason and detail of what is no record."""

UNUSABLE = frozenset('"\\') | frozenset(map(chr, range(32)))
"""What a key may not hold, so that it is found without unescaping every key of the text."""

_Tree = dict[str, "_Tree"]
_Get = Callable[[object], object]


def forms(path: Path_) -> tuple[Path_, ...]:
    """Return how a path may stand in an object: nested, or flattened into one key.

    Examples
    --------
    >>> forms(("source", "ip"))
    (('source', 'ip'), ('source.ip',))
    """
    return (path,) if len(path) == 1 else (path, (".".join(path),))


def conflicts(paths: Iterable[Path_]) -> list[tuple[Path_, Path_]]:
    """Return the pairs of paths of which the first would be both a value and an object with the second."""
    found = sorted({form for path in paths for form in forms(path)})
    return [(a, b) for a, b in permutations(found, 2) if len(a) < len(b) and b[: len(a)] == a]


class Picker:
    """Takes the values at some paths out of the text of JSON objects.

    A key that is missing, or whose value is null, gives None. Of a key that occurs twice the last
    counts. What stands at no path is passed over, and checked for its form only.

    Parameters
    ----------
    paths : iterable of paths
        Without `conflicts`.
    """

    def __init__(self, paths: Iterable[Path_]) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        tree: _Tree = {}
        for path in self.paths:
            for form in forms(path):
                _grow(tree, form)
        self._decode = msgspec.json.Decoder(_struct(tree)).decode
        self._gets = {path: [_getter(tree, form) for form in forms(path)] for path in self.paths}

    def parse(self, texts: Sequence[bytes]) -> tuple[list[Any], list[int], dict[int, Fault]]:
        """Return the objects that can be read, the index of each text they are from, and the other faults."""
        objects, rows, faults = [], [], {}
        for index, text in enumerate(texts):
            try:
                objects.append(self._decode(text))
                rows.append(index)
            except (ValueError, RecursionError) as error:
                faults[index] = _fault(error)
        return objects, rows, faults

    def pick(self, objects: Sequence[Any]) -> Mapping[Path_, list[object]]:
        """Return for each path the value in every object, or None."""
        return {path: _values(gets, objects) for path, gets in self._gets.items()}


def _grow(tree: _Tree, path: Path_) -> None:
    for key in path:
        tree = tree.setdefault(key, {})


def _struct(tree: _Tree) -> type[Any]:
    """Return a type whose decoder builds only what is in the tree."""
    fields: list[tuple[str, Any, Any]] = []
    for i, branch in enumerate(tree.values()):
        kind = _struct(branch) if branch else None
        fields.append((f"f{i}", kind | None, kind()) if kind else (f"f{i}", Any, None))
    rename = {f"f{i}": key for i, key in enumerate(tree)}
    return msgspec.defstruct("Picked", fields, rename=rename, frozen=True, gc=False)


def _getter(tree: _Tree, path: Path_) -> _Get:
    names = []
    for key in path:
        names.append(f"f{list(tree).index(key)}")
        tree = tree[key]
    return attrgetter(".".join(names))


def _values(gets: Sequence[_Get], objects: Sequence[Any]) -> list[object]:
    values = _column(gets[0], objects)
    for get in gets[1:]:
        if None in values:
            values = [get(o) if v is None else v for v, o in zip(values, objects, strict=True)]
    return values


def _column(get: _Get, objects: Sequence[Any]) -> list[object]:
    try:
        return list(map(get, objects))
    except AttributeError:  # somewhere an object on the way is null
        return [_one(get, thing) for thing in objects]


def _one(get: _Get, thing: Any) -> object:
    try:
        return get(thing)
    except AttributeError:
        return None


def _fault(error: Exception) -> Fault:
    if isinstance(error, RecursionError):
        return "too_deep", "objects in objects beyond all use, expected a flat record or a few levels"
    if isinstance(error, UnicodeDecodeError):
        return "not_utf8", f"a text that is no UTF-8 ({error.reason})"
    said = str(error).replace("`", "")
    if not isinstance(error, msgspec.ValidationError):
        return "not_json", f"{said}, expected one JSON object"
    if "out of range" in said:
        return "unreadable_value", f"{said}, expected a number that 64 bits hold"
    if " - at " in said:
        return "wrong_type", said
    return "not_an_object", f"{said[:1].lower()}{said[1:]}; give each flow as one JSON object of its own"
