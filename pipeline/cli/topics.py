"""`weir topics`: make, list and delete the topics of a prefix."""

import json

import click

from pipeline.cli.options import examples, settings_options
from pipeline.settings import Settings


@click.group(epilog=examples("weir topics create", "weir topics list", "weir topics delete --prefix test"))
def topics() -> None:
    """Create, list or delete the topics of a prefix."""


@topics.command(
    epilog=examples(
        "weir topics create",
        "weir topics create --prefix lab --set topics.lanes=8 --set features.feature_set=nsl-kdd",
    )
)
@settings_options
def create(*, settings: Settings) -> None:
    """Create the topics that are missing, for the configured feature set and panel.

    Those that exist stay as they are; one with another number of lanes is an error.
    """
    from connectors.topics import TopicAdmin
    from pipeline.topic_plan import topic_specs

    specs = topic_specs(settings)
    with TopicAdmin(settings.kafka) as admin:
        made = set(admin.create(specs))
    for spec in specs:
        state = "created" if spec.name in made else "exists"
        click.echo(f"{state:8} {spec.name}  partitions {spec.partitions}")


@topics.command("list", epilog=examples("weir topics list", "weir topics list --json"))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a topic.")
@settings_options
def list_(*, settings: Settings, as_json: bool) -> None:
    """List the topics of the prefix, with partitions and messages."""
    from connectors.kafka_reader import KafkaReader

    names = _names(settings)
    if not names and not as_json:
        click.echo(f"no topics under prefix {settings.topics.prefix}; create them with: weir topics create")
    with KafkaReader(settings.kafka) as reader:
        for name in names:
            spans = reader.offsets(name).values()
            messages = sum(end - begin for begin, end in spans)
            if as_json:
                click.echo(json.dumps({"name": name, "partitions": len(spans), "messages": messages}))
            else:
                click.echo(f"{name:44} partitions {len(spans):4}  messages {messages:12,}")


@topics.command(epilog=examples("weir topics delete --prefix test", "weir topics delete --prefix test --yes"))
@click.option("--yes", is_flag=True, help="Do not ask.")
@settings_options
def delete(*, settings: Settings, yes: bool) -> None:
    """Delete all topics of the prefix, of every feature set and panel, and all that they hold."""
    from connectors.topics import TopicAdmin

    names = _names(settings)
    if not names:
        click.echo(f"no topics under prefix {settings.topics.prefix}")
        return
    if not yes:
        listed = "\n".join(f"  {name}" for name in names)
        click.confirm(f"{listed}\nDelete these topics at {settings.kafka.servers}?", abort=True)
    with TopicAdmin(settings.kafka) as admin:
        for name in admin.delete(names):
            click.echo(f"deleted  {name}")


def _names(settings: Settings) -> list[str]:
    from connectors.topics import TopicAdmin
    from pipeline.topic_plan import owned

    with TopicAdmin(settings.kafka) as admin:
        return owned(settings.topics.prefix, admin.names())
