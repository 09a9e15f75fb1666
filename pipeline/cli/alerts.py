"""`weir alerts`: follow the alerts, readable or raw."""

import json
import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec
from rich.console import Console
from rich.text import Text

from pipeline.cli.options import examples, settings_options
from pipeline.ocsf import OcsfError, detection_finding
from pipeline.quantities import quantity
from pipeline.settings import Settings
from pipeline.version import version

if TYPE_CHECKING:
    from connectors.alerts_subscriber import ReceivedAlert
    from connectors.kafka_reader import Message

TERMS = 3
FEATURES = 3
"""Noise directions, and features of each, shown of an alert; `--format ecs` has all."""

FOREIGN_CHARS = 500
"""Shown of a message that is no alert of ours."""

SEVERITIES = {
    99: ("CRITICAL", "bold white on red"),
    73: ("HIGH", "bold red"),
    47: ("MEDIUM", "yellow"),
    0: ("INFO", "dim"),
}
LOW = ("LOW", "cyan")

Format = Literal["text", "ecs", "ocsf"]


class _Event(msgspec.Struct):
    reason: str
    severity: int


class _Share(msgspec.Struct):
    name: str
    observed: float | str
    expected: float | str
    unit: str
    contribution: float


class _Described(msgspec.Struct):
    name: str
    text: str
    kind: str


class _Term(msgspec.Struct):
    id: str
    deviation: float
    share: float
    features: list[_Share]
    kind: str = "noise_direction"


class _Evidence(msgspec.Struct):
    panel: str
    sensor: str = ""  # what is told of a whole lane has none, and no terms
    leading: str = ""
    noise_directions: list[_Term] = []
    residuals: list[_Term] = []
    features: list[_Described] = []


class _Shown(msgspec.Struct):
    """What of an alert is shown."""

    time: datetime = msgspec.field(name="@timestamp")
    event: _Event
    weir: _Evidence


def render_alert(alert: dict[str, Any]) -> Text:
    """Return an alert as a person reads it, without a newline at the end.

    The first line has time, severity, sensor (or panel, where it is of no single sensor) and the sentence
    of who, how unusual and why; below it are the largest noise directions, each with the features that
    push it, observed and expected. If a residual led to the judgement, it stands first. What is no alert
    of ours is shown as JSON.

    Parameters
    ----------
    alert : dict
        The decoded body of a message in the alerts topic.
    """
    try:
        shown = msgspec.convert(alert, _Shown)
    except msgspec.ValidationError as error:
        raw = json.dumps(alert, ensure_ascii=False)[:FOREIGN_CHARS]
        return Text(_printable(f"not an alert of weir ({error}): {raw}"), style="dim")
    words = {feature.name: feature for feature in shown.weir.features}
    lines = [_headline(shown)]
    for term in _terms(shown.weir):
        lines.append(_term_line(term))
        lines += [_feature_line(share, words.get(share.name)) for share in term.features[:FEATURES]]
    return Text("\n").join(lines)


def _headline(shown: _Shown) -> Text:
    label, style = SEVERITIES.get(shown.event.severity, LOW)
    who, bracket, rest = shown.event.reason.partition(" (p = ")
    return Text.assemble(
        (f"{shown.time:%Y-%m-%d %H:%M:%S}", "dim"),
        " ",
        (f"{label:8}", style),
        f" {_printable(shown.weir.sensor or shown.weir.panel)}  ",
        (_printable(who), "bold"),
        _printable(f"{bracket}{rest}"),
    )


def _terms(weir: _Evidence) -> list[_Term]:
    leading = [term for term in weir.residuals if f"{term.kind}:{term.id}" == weir.leading]
    others = weir.noise_directions or [term for term in weir.residuals if term not in leading]
    return (leading + others)[:TERMS]


def _term_line(term: _Term) -> Text:
    name = _printable(f"{term.kind.replace('_', ' ')} {term.id}")
    told = f"{term.deviation:+.3g} standard deviations, {quantity(term.share, 'ratio')} of the score"
    # A watched feature is no part of the score: it was constant in training, and moved.
    told = "did not change in training" if term.kind == "watched" else told
    return Text.assemble("    ", (name, "magenta"), (f"  {told}", "dim"))


def _feature_line(share: _Share, described: _Described | None) -> Text:
    text, kind = (described.text, described.kind) if described else (share.name, "numeric")
    return Text.assemble(
        f"        {_printable(text)}: ",
        (_printable(quantity(share.observed, share.unit, kind)), "bold"),
        _printable(f", expected {quantity(share.expected, share.unit, kind)}"),
        (f"  ({share.contribution:+.3g} s.d.)" if share.contribution else "", "dim"),
    )


def _printable(text: str) -> str:
    """Return `text` without what would steer the terminal: names in an alert come from the network."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


@click.command(
    epilog=examples(
        "weir alerts",
        "weir alerts --from beginning --limit 20",
        "weir alerts --format ecs --from beginning --idle-timeout 5 > alerts.jsonl",
        "weir alerts --format ocsf | my-siem-forwarder",
        "weir alerts --bootstrap-servers kafka:9092 --prefix site2",
    )
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "ecs", "ocsf"]),
    default="text",
    show_default=True,
    help="text for people; ecs: the alerts as published, ocsf: as Detection Findings of OCSF 1.6, one JSON "
    "object a line.",
)
@click.option("--json", "form", flag_value="ecs", help="Short for --format ecs.")
@click.option(
    "--from",
    "begin",
    type=click.Choice(["latest", "beginning"]),
    default="latest",
    show_default=True,
    help="Show only what comes from now on, or all that the topic holds first.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="End after N alerts.")
@click.option(
    "--idle-timeout",
    "idle_timeout_s",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="End when nothing has come for so long.",
)
@settings_options
def alerts(
    *,
    settings: Settings,
    form: Format,
    begin: Literal["latest", "beginning"],
    limit: int | None,
    idle_timeout_s: float | None,
) -> None:
    """Follow the alerts as they are published, each one once.

    Runs until Ctrl-C, which is no error, unless --limit or --idle-timeout ends it.
    """
    from pipeline.cli.signals import stop_on_sigterm

    stop_on_sigterm()
    try:
        _follow(settings, begin, form, limit=limit, idle_timeout_s=idle_timeout_s)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # Whoever read us has gone (`weir alerts | head`): nothing more to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _follow(
    settings: Settings,
    begin: Literal["latest", "beginning"],
    form: Format,
    *,
    limit: int | None,
    idle_timeout_s: float | None,
) -> None:
    from connectors.alerts_subscriber import AlertsSubscriber
    from connectors.topics import Topics

    console = Console(highlight=False, soft_wrap=True)
    topics = Topics(settings.topics.prefix)
    with AlertsSubscriber(settings.kafka, topics, on_bad=_say_bad) as subscriber:
        received = subscriber.follow(begin, idle_timeout_s=idle_timeout_s)
        written = (text for one in received if (text := _written(one, form, console)) is not None)
        for n_shown, text in enumerate(written, start=1):
            click.echo(text, color=True)  # rich has decided about colours
            if n_shown == limit:
                return


def _written(one: "ReceivedAlert", form: Format, console: Console) -> str | None:
    """Return an alert in the form that was asked for; None, and say so, where it has none in that."""
    if form == "text":
        return _styled(console, render_alert(one.alert))
    if form == "ecs":
        return _one_line(one.raw)
    try:
        finding = detection_finding(one.alert, version())
    except OcsfError as error:
        _say_bad(one.message, str(error))
        return None
    return json.dumps(finding, ensure_ascii=False, separators=(",", ":"))


def _say_bad(message: "Message", why: str) -> None:
    click.echo(f"{message.topic}/{message.partition}/{message.offset} is no alert: {why}", err=True)


def _one_line(raw: bytes) -> str:
    text = raw.decode()
    return json.dumps(json.loads(text), ensure_ascii=False) if "\n" in text else text


def _styled(console: Console, text: Text) -> str:
    with console.capture() as capture:
        console.print(text, end="")
    return capture.get()
