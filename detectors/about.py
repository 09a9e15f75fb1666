"""What a detector says of itself: its docstring in parts, its mode, its needs, its defaults."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectors.base import Detector
from detectors.registry import create, detector_class


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """A detector, told to people."""

    name: str
    summary: str  # one line
    text: str  # the docstring up to its first section
    mode: str  # live or offline
    columns: tuple[str, ...]  # kinds of columns that it takes
    scaling: str
    uses: tuple[str, ...]  # beside normal rows
    defaults: Mapping[str, Any]  # parameter -> JSON value
    variants: Mapping[str, Mapping[str, Any]]  # variant -> values that differ from `defaults`
    parameters: str  # section Parameters as it stands
    references: str  # section References

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {field: getattr(self, field) for field in self.__dataclass_fields__}


def about(name: str) -> About:
    """Return what there is to tell of a detector.

    Raises
    ------
    UnknownDetectorError
        If no detector has this name.
    """
    found = detector_class(name)
    text, _, _ = _documentation(found).partition("\n\nParameters\n")
    text = text.partition("\n\nReferences\n")[0].partition("\n\nExamples\n")[0].strip()
    defaults = found().parameters()
    return About(
        name=name,
        summary=text.partition("\n\n")[0].replace(" [1]_", "").replace("\n", " "),
        text=text,
        mode=found.mode,
        columns=tuple(sorted(found.columns)),
        scaling=found.scaling,
        uses=tuple(sorted(found.uses)),
        defaults=defaults,
        variants=_variants(found, defaults),
        parameters=_section(found, "Parameters"),
        references=_section(found, "References"),
    )


def _documentation(found: type[Detector]) -> str:
    return inspect.getdoc(found) or ""


def _variants(found: type[Detector], defaults: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for variant in getattr(found, "variants", {}):
        values = create(found.name, {"variant": variant}).parameters()
        if variant != defaults.get("variant"):
            made[variant] = {key: value for key, value in values.items() if value != defaults[key]}
    return made


def _section(found: type[Detector], title: str) -> str:
    """Return a section of the docstring of the first class that has it."""
    for cls in found.__mro__:
        lines = inspect.cleandoc(cls.__dict__.get("__doc__") or "").split("\n")
        if title in lines:
            rest = lines[lines.index(title) + 2 :]
            ends = [i for i, line in enumerate(rest) if line.startswith("---")]
            section = rest[: ends[0] - 1] if ends else rest
            return "\n".join(section).strip()
    return ""
