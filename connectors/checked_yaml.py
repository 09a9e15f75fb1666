"""YAML files that people write: no key twice, and every mistake told with its dotted path."""

import difflib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from connectors.errors import ConnectorError

Path_ = tuple[str, ...]
"""A dotted path in parts: ("kafka", "bootstrap_servers")."""

SECRET_WORDS = ("password", "secret", "token")

EXPECTED = {
    "greater_than": ("gt", "is not greater than"),
    "greater_than_equal": ("ge", "is not at least"),
    "less_than": ("lt", "is not less than"),
    "less_than_equal": ("le", "is not at most"),
}
"""Pydantic's kinds of range errors: where the bound stands, and how to say it."""


def read_yaml(path: Path, what: str) -> Any:
    """Return what a YAML file holds.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it should hold, for the message.

    Raises
    ------
    ConnectorError
        If it cannot be read, is no YAML, or repeats a key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConnectorError(f"cannot read {what} from {path}: {why}; give a YAML file") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """Return what YAML text holds; `name` says in the message where it stands."""
    try:
        return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 a SafeLoader that also refuses repeats
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = " ".join(str(error).split())
        raise ConnectorError(f"{name} is not valid YAML: {where}") from error


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets the last of two equal keys win in silence; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 the loader's own signature
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is given twice or is no name", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def mistakes(error: ValidationError, model: type[BaseModel]) -> list[tuple[Path_, str]]:
    """Return the path of each mistake and one line that says what is wrong with it."""
    found = []
    for detail in error.errors():
        path = tuple(str(part) for part in detail["loc"])
        found.append((path, f"{'.'.join(path) or 'settings'}: {_wording(path, detail, model)}"))
    return found


def _wording(path: Path_, detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown(path[-1], siblings(path, model))
    seen = "the value given" if is_secret(path) else f"{detail['input']!r:.80}"
    if kind in EXPECTED:
        bound, words = EXPECTED[kind]
        return f"{seen.strip(chr(39))} {words} {context[bound]:g}"
    if kind == "value_error":  # our own validators write whole sentences
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return f"{seen} is no name; use lower-case letters, digits, and . _ - between them"
    advice = "; put it in quotes" if kind == "string_type" else ""
    return f"{seen} is wrong: {detail['msg'][:1].lower()}{detail['msg'][1:]}{advice}"


def is_secret(path: Path_) -> bool:
    """Tell whether the value at `path` must never be shown."""
    return any(word in path[-1].lower() for word in SECRET_WORDS) if path else False


def siblings(path: Path_, model: type[BaseModel]) -> Iterable[str]:
    """Return the names that could stand where `path` ends."""
    for part in path[:-1]:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type):
            return ()
        model = field.annotation
    return model.model_fields


def unknown(name: str, known: Iterable[str], what: str = "setting") -> str:
    """Return what is wrong with a name that is none of `known`.

    Examples
    --------
    >>> unknown("lnes", ["lanes", "prefix"])
    'unknown setting; did you mean lanes?'
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"unknown {what}; did you mean {near[0]}?"
    return f"unknown {what}; known here: {', '.join(names)}" if names else f"unknown {what}"
