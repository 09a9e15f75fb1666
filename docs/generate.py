"""Write the reference pages in docs/reference from the code: `make docs`."""  # noqa: INP001 a script

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from connectors.records import RECORD_TYPES, Column, RecordType
from connectors.sources import SOURCES
from detectors.about import About, about
from detectors.registry import DETECTORS
from pipeline.cli.main import COMMANDS, weir
from pipeline.features.base import Feature, FeatureSet
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.metrics import Metrics
from pipeline.settings import Settings
from pipeline.settings_layers import DELIMITER, ENV_PREFIX, shown

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
SCHEMA = ROOT / "pipeline" / "alert.schema.json"
DRIFT_SCHEMA = ROOT / "pipeline" / "drift.schema.json"
HEADER = "<!-- Written by `make docs` from the code; change that instead. -->\n"


def pages() -> dict[str, str]:
    """Return the text of every reference page by its file name."""
    bodies = {
        "settings.md": settings_page(),
        "commands.md": commands_page(),
        "datasets.md": datasets_page(),
        "records.md": records_page(),
        "features.md": features_page(),
        "detectors.md": detectors_page(),
        "alerts.md": alerts_page(),
        "metrics.md": metrics_page(),
    }
    return {name: f"{HEADER}{body.rstrip()}\n" for name, body in bodies.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a Markdown table.

    Examples
    --------
    >>> table(["a", "b"], [["1", "x|y"]])
    '| a | b |\n| --- | --- |\n| 1 | x\\|y |\n'
    """
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def code(text: str) -> str:
    """Return `text` as code, nothing for nothing."""
    return f"`{text}`" if text else ""


def settings_page() -> str:
    """Return every setting with default, range, unit and meaning."""
    text = (
        "# Settings\n\nRead from, in rising priority: the default, a YAML file (`--config FILE` or the "
        "variable `WEIR_CONFIG`), the environment, the command line (`--set topics.lanes=8`). "
        f"`topics.lanes` is `{ENV_PREFIX}TOPICS{DELIMITER}LANES` in the environment. Unknown names are "
        "errors. `weir config show` tells each value and where it came from, `weir lint FILE` every "
        "mistake of a file.\n"
    )
    for name, field in Settings.model_fields.items():
        section: Any = field.annotation
        text += f"\n## {name}\n\n{field.description}\n\n"
        head = ("setting", "default", "allowed", "meaning")
        text += table(head, _settings_rows(name, section))
    return text


def _settings_rows(section: str, model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        default = shown((section, name), field.get_default(call_default_factory=True))
        allowed = _allowed(schema["properties"][name])
        yield code(f"{section}.{name}"), code(default), allowed, field.description or ""


def _allowed(schema: Mapping[str, Any]) -> str:
    """Return range, values and unit of a JSON schema's number or text."""
    choices = schema.get("anyOf", [schema])
    texts = [_range(one) for one in choices if one.get("type") != "null"]
    texts += ["null"] if any(one.get("type") == "null" for one in choices) else []
    text = ", or ".join(part for part in texts if part)
    return f"{text} {schema.get('unit', '')}".strip()


def _range(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(code(str(value)) for value in schema["enum"])
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high = schema.get("maximum")
    if above is not None:
        return f"above {above:g} to {high:g}" if high is not None else f"above {above:g}"
    if low is not None:
        return f"{low:,} to {high:,}" if high is not None else f"from {low:,}"
    names = {"boolean": "`true`, `false`", "array": "a list", "object": "a mapping", "string": "text"}
    return names.get(str(schema.get("type")), "")


def commands_page() -> str:
    """Return every command with its arguments and options."""
    text = (
        "# Commands\n\nExit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted; those of workers are "
        "under `weir worker`. `weir COMMAND --help` says the same.\n"
    )
    context = click.Context(weir, info_name="weir")
    for name in COMMANDS:
        command = weir.get_command(context, name)
        assert command is not None
        for path, leaf in leaves(f"weir {name}", command):
            text += _command(path, leaf)
    return text


def leaves(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield each command that can be run, with its whole name."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from leaves(f"{path} {name}", inner)


def _command(path: str, command: click.Command) -> str:
    arguments = "".join(f" {p.human_readable_name}" for p in command.params if isinstance(p, click.Argument))
    options = [p for p in command.params if isinstance(p, click.Option)]
    text = f"\n## {path}{arguments}\n\n{inspect.cleandoc(command.help or '')}\n"
    if options:
        text += "\n" + table(("option", "value", "default", "meaning"), map(_option, options))
    lines = (command.epilog or "").replace("\b", "").strip().splitlines()[1:]
    return text + "\n```sh\n" + "".join(f"{line.strip()}\n" for line in lines) + "```\n"


def _option(option: click.Option) -> tuple[str, str, str, str]:
    info = option.to_info_dict()
    names = ", ".join(code(name) for name in (*option.opts, *option.secondary_opts))
    default = info["default"]
    flag = option.is_flag or default in (None, (), [])
    return names, _value(option, info["type"]), "" if flag else code(str(default)), option.help or ""


def _value(option: click.Option, kind: Mapping[str, Any]) -> str:
    if option.is_flag:
        return ""
    if "choices" in kind:
        return ", ".join(code(str(choice)) for choice in kind["choices"])
    low, high = kind.get("min"), kind.get("max")
    if low is None:
        return code((option.metavar or kind["name"]).upper())
    above = "above " if kind.get("min_open") else ""
    return f"{above}{low}" + (f" to {high}" if high is not None else ("" if above else " or more"))


def datasets_page() -> str:
    """Return the datasets and the file names of their parts."""
    text = (
        "# Datasets\n\nNames that `weir train`, `weir evaluate` and `weir replay` take. Files are looked "
        "for in the folder of `--data`, else of the variable `WEIR_DATA`, and there in the dataset's "
        "subfolder first; of several names of a part the first one found is read. The first part of "
        "a table is read where no `--part` is given.\n"
    )
    for name, entry in SOURCES.items():
        text += f"\n## {name}\n\n{entry.about[0].upper()}{entry.about[1:]}.\n"
        if entry.parts:
            rows = ((part, ", ".join(map(code, files))) for part, files in entry.parts.items())
            text += f"\nSubfolder: {code(entry.folder)}.\n\n" + table(("part", "files"), rows)
    return text


def records_page() -> str:
    """Return the record types with their columns."""
    text = (
        "# Record types\n\nOne message of a flows topic is one Arrow record batch of one type, named in "
        "the header `weir-record`. Columns are found by name, extra ones ignored. A row that breaks a "
        "rule goes to the dead letters with its reason; the others go on.\n"
    )
    for record_type in RECORD_TYPES.values():
        text += f"\n## {record_type.id}\n\n" + _columns(record_type)
    return text


def _columns(record_type: RecordType) -> str:
    head = ("column", "type", "unit", "null", "rule", "meaning")
    return table(head, (_column(column) for column in record_type.columns))


def _column(column: Column) -> tuple[str, ...]:
    rule = "" if column.minimum is None else f"at least {column.minimum:g}"
    rule = ", ".join(map(code, column.values)) or rule
    null = "yes" if column.nullable else "no"
    return code(column.name), code(str(column.type)), column.unit, null, rule, column.about


def features_page() -> str:
    """Return the feature sets with their features."""
    text = (
        "# Feature sets\n\nWhat the models see of a record, in this order. `about` says whom an anomaly of "
        "the feature concerns: the flow itself, its source, its destination or the pair; it becomes the "
        "entity of the alert. The identity of a set is its name and the hash of its declaration; a detect "
        "worker refuses features of another one.\n"
    )
    return text + "".join(_feature_set(chosen) for chosen in FEATURE_SETS.values())


def _feature_set(chosen: FeatureSet) -> str:
    text = f"\n## {chosen.name}\n\n`{chosen.id}` over `{chosen.record_type.id}`, "
    text += f"{len(chosen.features)} features.\n"
    if chosen.required:
        text += f"Records need {', '.join(map(code, chosen.required))}.\n"
    if chosen.windows:
        widths = " and ".join(f"{width} s" for width in chosen.windows.widths_s)
        text += f"Windows of {widths} of lane clock, of at most {chosen.windows.capacity:,} rows.\n"
    if chosen.rhythm:
        text += f"Rhythm of the last {chosen.rhythm.gaps} gaps of a contact in {chosen.rhythm.width_s} s, "
        text += f"of at most {chosen.rhythm.capacity:,} rows.\n"
    head = ("feature", "kind", "unit", "transform", "about", "meaning")
    return f"{text}\n" + table(head, map(_feature, chosen.features))


def _feature(feature: Feature) -> tuple[str, ...]:
    transform = "" if feature.transform == "none" else feature.transform
    return code(feature.name), feature.kind, feature.unit, transform, feature.about, feature.text


def detectors_page() -> str:
    """Return the built-in detectors with their parameters."""
    text = (
        "# Detectors\n\nBuilt in; others come through the entry-point group `weir.detectors`. Parameters "
        "are given to `weir train` as `--param NAME=VALUE`; `null` leaves a choice to the detector.\n"
    )
    for name in DETECTORS:
        found = about(name)
        text += (
            f"\n## {name}\n\n{found.summary}\n\nMode {found.mode}; takes {', '.join(found.columns)} columns"
        )
        text += f"; uses {', '.join(found.uses)} where given.\n\n" if found.uses else ".\n\n"
        text += _defaults(found)
        text += f"\n```text\n{found.parameters}\n```\n" if found.parameters else ""
        text += f"\n```text\n{found.references}\n```\n" if found.references else ""
    return text


def _defaults(found: About) -> str:
    """Return the parameters with their defaults, and what the other variants change."""
    if not found.defaults:
        return "No parameters.\n"
    rows = [
        (code(key), code(json.dumps(value)), *(_changed(changes, key) for changes in found.variants.values()))
        for key, value in found.defaults.items()
    ]
    return table(("parameter", "default", *(f"variant {code(name)}" for name in found.variants)), rows)


def _changed(changes: Mapping[str, Any], key: str) -> str:
    return code(json.dumps(changes[key])) if key in changes else ""


def alerts_page() -> str:
    """Return the fields of an alert."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    text = (
        f"# Fields of an alert\n\n{schema['description']}\n\nThe schema itself is "
        "[`pipeline/alert.schema.json`](../../pipeline/alert.schema.json), with examples.\n\n"
    )
    head = ("field", "always", "type", "meaning")
    text += table(head, _fields(schema, schema["$defs"], ""))
    drift = json.loads(DRIFT_SCHEMA.read_text(encoding="utf-8"))
    text += (
        f"\n## Fields of a drift alert\n\n{drift['description']}\n\nThe schema itself is "
        "[`pipeline/drift.schema.json`](../../pipeline/drift.schema.json).\n\n"
    )
    return text + table(head, _fields(drift, drift["$defs"], ""))


def _fields(node: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> Iterator[tuple[str, ...]]:
    for name, value in node.get("properties", {}).items():
        field = _resolved(value, defs)
        always = "yes" if name in node.get("required", ()) else ""
        items = _resolved(field.get("items", {}), defs)
        if not field.get("properties"):
            yield code(path + name), always, _type(field, items), field.get("description", "")
        yield from _fields(field, defs, f"{path}{name}.")
        yield from _fields(items, defs, f"{path}{name}[].")


def _resolved(node: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    name = node.get("$ref", "").rpartition("/")[2]
    return {**defs.get(name, {}), **node}


def _type(field: Mapping[str, Any], items: Mapping[str, Any]) -> str:
    if "const" in field:
        return code(json.dumps(field["const"]))
    if "enum" in field:
        return ", ".join(code(json.dumps(value)) for value in field["enum"])
    kind = field.get("type") or [one.get("type", "") for one in field.get("oneOf", field.get("anyOf", []))]
    kind = " or ".join(dict.fromkeys(kind)) if isinstance(kind, list) else kind
    return f"{kind} of {items.get('type', 'object')}" if kind == "array" else kind


def metrics_page() -> str:
    """Return the metrics of a worker."""
    text = (
        "# Metrics\n\nAt `/metrics` of every worker, in Prometheus' format, beside those of the process "
        "(`process_*`). Counters end in `_total`. Labels are bounded: never an address or a flow.\n\n"
    )
    return text + table(("metric", "type", "labels", "meaning"), _metrics())


def _metrics() -> Iterator[tuple[str, ...]]:
    metrics = Metrics()
    held = [*vars(metrics).values(), *vars(metrics.watch).values()]
    known = {getattr(value, "_name", ""): value for value in held}
    for family in metrics.registry.collect():
        if family.name.startswith("weir_"):
            labels = getattr(known.get(family.name), "_labelnames", ())
            name = f"{family.name}_total" if family.type == "counter" else family.name
            yield code(name), family.type, ", ".join(map(code, labels)), family.documentation


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
