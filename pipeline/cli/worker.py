"""`weir worker`: run one stage of the stream, or all of them as children."""

import signal
import sys
from typing import Literal

import click

from pipeline.cli.options import Given, examples, given_options

STAGES = ("features", "detect", "alerts")


@click.command(
    epilog=examples(
        "weir worker all --config weir.yaml",
        "weir worker features --set features.feature_set=unsw-nb15",
        "weir worker detect --set panel.models=nsl --from earliest",
        "weir worker detect --panel panel.yaml",
        "weir worker alerts --set grouping.enabled=false",
    )
)
@click.argument("stage", type=click.Choice([*STAGES, "all"]))
@click.option(
    "--from",
    "begin",
    type=click.Choice(["latest", "earliest"]),
    default="latest",
    show_default=True,
    help="Where a panel that never ran begins: with new flows, or with the oldest in the log.",
)
@given_options
def worker(*, stage: str, begin: Literal["latest", "earliest"], given: Given) -> None:
    """Run the features, detect or alerts stage until told to stop; `all` runs one of each.

    Start the same stage again, here or on another machine, and Kafka shares the lanes among its
    members. Nothing is lost when one is killed: the offset of a flow moves after its result is safe.

    Exit codes: 0 after SIGTERM or Ctrl-C; 75 if the broker is away, input or output failed or the
    port is taken, so that a supervisor should start it again; 78 if a person must act first (missing
    topics or models, wrong settings, a refused login); 2 for a wrong command line.
    """
    from pipeline.exit_codes import exit_codes
    from pipeline.logs import configure_logging

    with exit_codes():
        settings = given.load().settings
        configure_logging(level=settings.logging.level, format=settings.logging.format, role=stage)
        if stage != "all":
            from pipeline.agents.app import run_worker

            run_worker(stage, settings, begin=begin)
    from pipeline.supervisor import Supervisor, counted_ports, worker_children
    from pipeline.topic_plan import stages

    chosen = stages(settings)
    ports = counted_ports(settings.worker.port, chosen)
    supervisor = Supervisor(worker_children(chosen, begin, given.options(), ports))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop_soon())
    sys.exit(supervisor.run())
