"""Where settings come from: file, environment and command line, and which of them won."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings.exceptions import SettingsError as SourceSettingsError

from connectors.checked_yaml import Path_, is_secret, read_yaml, siblings, unknown
from connectors.errors import ConnectorError
from pipeline.errors import SettingsError

ENV_PREFIX = "WEIR__"
DELIMITER = "__"
ENVIRONMENT = "environment"
MASKED = "********"


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
        values = read_yaml(path, "settings")
    except ConnectorError as error:
        raise SettingsError(str(error)) from error
    if values is not None and not isinstance(values, dict):
        expected = f"the settings of {section}" if section else "sections as 'kafka:' and 'topics:'"
        raise SettingsError(f"{path} holds a {type(values).__name__}, expected {expected}")
    values = values or {}
    return Layer(name=f"file {path}", values={section: values} if section else values)


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


def _misplaced(path: Path_, model: type[BaseModel]) -> str:
    """Say what is wrong with a path that names no section, or nothing but a section."""
    name = path[0]
    if name in model.model_fields:
        return "a section, not a single setting; write SECTION.NAME"
    homes = [s for s in model.model_fields if name in siblings((s, name), model)] if len(path) == 1 else []
    return f"unknown setting; did you mean {homes[0]}.{name}?" if homes else unknown(name, model.model_fields)


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
