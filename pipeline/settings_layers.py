"""Where settings come from: file, environment and command line, and which of them won."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings.exceptions import SettingsError as SourceSettingsError

from pipeline.errors import SettingsError

Path_ = tuple[str, ...]
"""A dotted path in parts: ("kafka", "bootstrap_servers")."""

ENV_PREFIX = "WEIR__"
DELIMITER = "__"
ENVIRONMENT = "environment"
MASKED = "********"
SECRET_WORDS = ("password", "secret", "token")

EXPECTED = {
    "greater_than": ("gt", "is not greater than"),
    "greater_than_equal": ("ge", "is not at least"),
    "less_than": ("lt", "is not less than"),
    "less_than_equal": ("le", "is not at most"),
}
"""Pydantic's kinds of range errors: where the bound stands, and how to say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Settings of one source, nested as in the file."""

    name: str  # default, file PATH, environment or --set
    values: Mapping[str, Any]
    problems: tuple[str, ...] = ()  # what could not even be placed in `values`

    def origin(self, path: Path_) -> str:
        """Return how a person finds the value at `path` in this layer."""
        if self.name != ENVIRONMENT:
            return self.name
        return f"{self.name} variable {ENV_PREFIX}{DELIMITER.join(path).upper()}" if path[1:] else self.name


def file_layer(path: Path, *, section: str | None = None) -> Layer:
    """Return the settings of a YAML file: of all sections, or of the one that is named.

    Raises
    ------
    SettingsError
        If the file cannot be read, is no YAML, repeats a key, or holds no sections.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(f"cannot read settings from {path}: {why}; give a YAML file") from error
    try:
        values = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 a SafeLoader that also refuses repeats
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise SettingsError(f"{path} is not valid YAML: {where}") from error
    if values is not None and not isinstance(values, dict):
        expected = f"the settings of {section}" if section else "sections as 'kafka:' and 'topics:'"
        raise SettingsError(f"{path} holds a {type(values).__name__}, expected {expected}")
    values = values or {}
    return Layer(name=f"file {path}", values={section: values} if section else values)


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets the last of two equal keys win in silence; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 the loader's own signature
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def env_layer(model: type[BaseSettings], env: Mapping[str, str]) -> Layer:
    """Return the settings in environment variables such as WEIR__KAFKA__BOOTSTRAP_SERVERS."""
    pairs = [
        (tuple(name[len(ENV_PREFIX) :].lower().split(DELIMITER)), text)
        for name, text in sorted(env.items())
        if name.upper().startswith(ENV_PREFIX)
    ]
    return _text_layer(model, ENVIRONMENT, pairs)


def override_layer(model: type[BaseSettings], overrides: Mapping[str, Any] | Sequence[str]) -> Layer:
    """Return the settings given as `--set a.b=c`, or as a mapping of dotted path to value."""
    if isinstance(overrides, Mapping):
        return Layer(name="--set", values=_nested(overrides))
    wrong = [item for item in overrides if "=" not in item]
    pairs = [item.partition("=") for item in overrides if "=" in item]
    layer = _text_layer(model, "--set", [(tuple(p.strip().split(".")), text) for p, _, text in pairs])
    problems = [f"--set {item}: expected PATH=VALUE, such as --set topics.lanes=8" for item in wrong]
    return Layer(name=layer.name, values=layer.values, problems=(*problems, *layer.problems))


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return nested


def _text_layer(model: type[BaseSettings], name: str, pairs: Iterable[tuple[Path_, str]]) -> Layer:
    """Return texts read by pydantic-settings' rules, so that both kinds of text are read alike."""
    names: dict[str, str] = {}
    problems = []
    for path, text in pairs:
        if path[0] in model.model_fields and len(path) > 1:
            names[f"{ENV_PREFIX}{DELIMITER.join(path)}".lower()] = text
        else:
            problems.append(f"{'.'.join(path)}: {_misplaced(path, model)}")
    source = EnvSettingsSource(model, env_prefix=ENV_PREFIX, env_nested_delimiter=DELIMITER)
    source.env_vars = {key: None if text == "null" else text for key, text in names.items()}
    try:
        values = source()
    except SourceSettingsError as error:
        return Layer(name=name, values={}, problems=(*problems, f"{name}: {error}"))
    return Layer(name=name, values=values, problems=tuple(problems))


def merge(layers: Iterable[Layer]) -> dict[str, Any]:
    """Return the values of all layers, later ones winning leaf by leaf."""
    merged: dict[str, Any] = {}
    for layer in layers:
        _update(merged, layer.values)
    return merged


def _update(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _update(target[key], value)
        else:
            target[key] = dict(value) if isinstance(value, Mapping) else value


def leaves(model: BaseModel, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield the path and value of every single setting of `model`, in the order declared."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def origin(layers: Sequence[Layer], path: Path_) -> str:
    """Return which layer the value at `path` came from, "default" where none gave it."""
    for layer in reversed(layers):
        if _given(layer.values, path):
            return layer.origin(path)
    return "default"


def _given(values: Any, path: Path_) -> bool:
    for part in path:
        if not isinstance(values, Mapping):
            return True  # a text that is read as a mapping later
        if part not in values:
            return False
        values = values[part]
    return True


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
        return _unknown(path[-1], _siblings(path, model))
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


def _siblings(path: Path_, model: type[BaseModel]) -> Iterable[str]:
    for part in path[:-1]:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type):
            return ()
        model = field.annotation
    return model.model_fields


def _misplaced(path: Path_, model: type[BaseModel]) -> str:
    """Say what is wrong with a path that names no section, or nothing but a section."""
    name = path[0]
    if name in model.model_fields:
        return "a section, not a single setting; write SECTION.NAME"
    homes = [s for s in model.model_fields if name in _siblings((s, name), model)] if len(path) == 1 else []
    return (
        f"unknown setting; did you mean {homes[0]}.{name}?" if homes else _unknown(name, model.model_fields)
    )


def _unknown(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"unknown setting; did you mean {near[0]}?"
    return f"unknown setting; known here: {', '.join(names)}"


def text_list(value: Any) -> Any:
    """Return a list from text as it stands in an environment variable: `a, b` or `[a, b]`."""
    if not isinstance(value, str):
        return value
    parts = (part.strip(" \"'") for part in value.strip(" []").split(","))
    return [part for part in parts if part]


def text_mapping(value: Any) -> Any:
    """Return a mapping from text as it stands in an environment variable: `{a: 0, b: 1}`."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value) or {}
    except yaml.YAMLError:
        raise ValueError(f"{value!r:.80} is no mapping; expected {{name: value}}") from None


def shown(path: Path_, value: Any) -> str:
    """Return a value as it would stand in the settings file, secrets masked."""
    if value is None:
        return "null"
    if isinstance(value, SecretStr) or is_secret(path):
        return MASKED
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    return str(value)


def description(model: Any, path: Path_) -> str:
    """Return what the setting at `path` of `model` means."""
    for part in path[:-1]:
        model = model.model_fields[part].annotation
    return model.model_fields[path[-1]].description or ""
