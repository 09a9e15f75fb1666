"""The undisturbed run that a round is compared with: the same log, workers that nothing happens to."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from installation import Installation, is_settled
from ledger import Message, Place
from members import Member
from verifier import Outcome, outcome

LIMIT_S = 240.0


def undisturbed(
    installation: Installation,
    log: Sequence[tuple[Place, Message]],
    env: Mapping[str, str],
    explained: frozenset[int],
) -> Outcome:
    """Return what a stream that nobody disturbs makes of a log.

    Raises
    ------
    TimeoutError
        If it does not come to its end.
    """
    installation.put(log)
    members = [installation.worker(stage, stage, env, explained) for stage in installation.stages]
    try:
        with installation.ledger() as ledger:
            deadline = time.monotonic() + LIMIT_S
            while not is_settled(ledger.look(), ledger.lag(installation.groups[-1], "detections")):
                _tend(members, deadline)
            return outcome(ledger.look())
    finally:
        for member in members:
            member.end()


def _tend(members: Sequence[Member], deadline: float) -> None:
    for member in members:
        member.tend(time.monotonic())
    wrong = [problem for member in members for problem in member.problems]
    if wrong or time.monotonic() > deadline:
        words = "; ".join(f"{member.name}: {member.last_words()}" for member in members)
        raise TimeoutError(f"the undisturbed run did not end: {wrong or words}")
    time.sleep(0.2)


class References:
    """Outcomes of undisturbed runs, kept in a folder by the key of the log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> Outcome | None:
        """Return an outcome if there is one, and not of an older program that kept less."""
        path = self._folder / f"{key}.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        return Outcome(**found) if set(found) == {field.name for field in fields(Outcome)} else None

    def put(self, key: str, found: Outcome) -> None:
        """Keep an outcome."""
        (self._folder / f"{key}.json").write_text(json.dumps(asdict(found)))

    def records(self, traffic: str, key: str) -> str:
        """Return the key of the records of a traffic, as its first round found it."""
        path = self._folder / f"{traffic}.records"
        if not path.exists():
            path.write_text(key)
        return path.read_text()
