"""`weir broker`: a local broker in the foreground."""

import socket
import time

import click

from connectors.errors import BrokerError
from pipeline.cli.options import examples
from pipeline.cli.signals import stop_on_sigterm

LOOK_S = 1.0
GONE_LOOKS = 3
"""Looks without an answer after which the broker counts as dead."""


@click.command(epilog=examples("weir broker", "weir broker --port 19092"))
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=9092, show_default=True, help="0 takes a free one."
)
def broker(*, port: int) -> None:
    """Run a Kafka-compatible broker on this machine until Ctrl-C.

    For trying things out: it keeps everything in memory, on the loopback address alone, and all of
    it is gone when it stops. Never for production.
    """
    from connectors.broker_local import local_broker

    stop_on_sigterm()
    try:
        with local_broker(port or None) as settings:
            click.echo(
                f"broker ready at {settings.servers} (in memory; all is lost when it stops; Ctrl-C stops)"
            )
            _watch(settings.bootstrap_servers[0])
    except KeyboardInterrupt:
        click.echo("broker stopped", err=True)


def _watch(address: str) -> None:
    """Return never; fail when nobody answers at `address` any more."""
    host, _, port = address.rpartition(":")
    missed = 0
    while missed < GONE_LOOKS:
        time.sleep(LOOK_S)
        try:
            with socket.create_connection((host, int(port)), timeout=LOOK_S):
                missed = 0
        except OSError:
            missed += 1
    raise BrokerError(f"the local broker at {address} has died, and what it held is gone; start it again")
