"""The card of a model: what a person reads before trusting it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.features.normaliser import Normaliser
from pipeline.terms import Loading, NamedTerm

NO_LABEL = "no one has named it yet"


def card(
    manifest: Mapping[str, Any],
    normaliser: Normaliser,
    terms: Sequence[NamedTerm],
    pictures: Sequence[str] = (),
) -> str:
    """Return the card as Markdown; `pictures` are files beside it."""
    detector, figures = manifest["detector"], dict(manifest["figures"])
    beside = figures.pop("baselines", {})
    parts = [
        f"# {manifest['name']}: {detector['name']} on {normaliser.feature_set.id}",
        _listing("Detector", {"seed": manifest["seed"], **detector["parameters"]}),
        _listing("Data", manifest["data"]),
        _listing("Held-out figures", figures),
        *_beside(detector["name"], figures, beside),
        *_shown_pictures(pictures),
        "\n".join(["## Calibration", "", *_calibration(manifest["calibration"])]),
        "\n".join(["## Noise directions", "", *_directions(terms, normaliser)]),
        "\n".join(["## Watched features", "", *_watched(normaliser)]),
        "\n".join(["## Limits", "", *(f"- {note}" for note in (*LIMITS, *manifest["notes"]))]),
    ]
    return "\n\n".join(parts) + "\n"


LIMITS = (
    "p-values hold for traffic like that of the calibration; when normal traffic changes, train again.",
    "A noise direction is named by what moves it on normal traffic; another seed may turn the axes.",
)


COMPARED = ("roc_auc", "average_precision", "n")
"""Figures shown beside those of the baselines."""

CAPTIONS = {
    "calibration.png": "Stated and observed false alarms on normal rows of the test part",
    "loadings.png": "What moves each noise direction on normal traffic",
    "scores.png": "Scores of held-out normal rows and of the test part",
}


def _beside(name: str, figures: Mapping[str, Any], baselines: Mapping[str, Any]) -> Iterator[str]:
    if baselines:
        head = ["| detector | ROC-AUC | average precision | rows judged |", "|---|---|---|---|"]
        rows = [
            f"| {label} | {' | '.join(_shown(found.get(figure)) for figure in COMPARED)} |"
            for label, found in {f"**{name}**": figures, **baselines}.items()
        ]
        chance = f"Chance has average precision {_shown(figures.get('prevalence'))}."
        yield "\n".join(["## Beside baselines", "", *head, *rows, "", chance])


def _shown_pictures(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield f"![{CAPTIONS.get(name, name)}]({name})"


def _listing(title: str, values: Mapping[str, Any]) -> str:
    return "\n".join([f"## {title}", "", *_lines(values, ""), *([] if values else ["Nothing stated."])])


def _lines(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}- {name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}- {name}: {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return "none" if value is None else str(value)


def _calibration(calibration: Mapping[str, Any]) -> Iterator[str]:
    yield f"- {calibration['n']} held-out normal flows; a watched feature moved in {calibration['n_moved']}"
    yield from (f"- {note}" for note in calibration["notes"])


def _directions(terms: Sequence[NamedTerm], normaliser: Normaliser) -> Iterator[str]:
    texts = {feature.name: feature.text for feature in normaliser.inputs}
    directions = [term for term in terms if term.term.kind == "noise_direction"]
    if not directions:
        yield "This detector has none: its terms are the features themselves."
    for direction in directions:
        yield f"### {direction.term.id} (about: {direction.about}; {NO_LABEL})"
        yield ""
        yield from (_loading(loading, texts) for loading in direction.loadings)
        yield ""


def _loading(loading: Loading, texts: Mapping[str, str]) -> str:
    category = f" is {loading.column.category}" if loading.column.category else ""
    return f"- {loading.value:+.2f} {loading.column.label}: {texts[loading.column.feature]}{category}"


def _watched(normaliser: Normaliser) -> Iterator[str]:
    if not normaliser.watched:
        yield "None was constant in training; categories that training never saw are noticed."
    for name in normaliser.watched:
        yield f"- {name} was always {_shown(normaliser.constants[name])}"
