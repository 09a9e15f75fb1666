"""How commands show what checks found."""

import json
from collections.abc import Iterable
from dataclasses import asdict

import click

from pipeline.findings import Finding


def show(findings: Iterable[Finding], *, as_json: bool) -> None:
    """Print each finding with what to do; exit code 1 if any is bad."""
    n_bad = 0
    for finding in findings:
        n_bad += not finding.good
        if as_json:
            click.echo(json.dumps(asdict(finding)))
            continue
        click.echo(f"{'good' if finding.good else 'BAD '}  {finding.check:10} {finding.found}")
        if finding.advice:
            click.echo(f"{'':17}-> {finding.advice}")
    if n_bad:
        click.echo(f"{n_bad} to be mended", err=True)
        raise click.exceptions.Exit(1)
