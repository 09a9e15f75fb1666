"""Deaths over a message are counted where the next process finds them."""

import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.agents.attempts import Attempts

DIES = """
import os, sys
from pathlib import Path
from pipeline.agents.attempts import Attempts
print(Attempts(Path(sys.argv[1])).begin("t", 0, int(sys.argv[2])), flush=True)
os._exit(139)
"""


def test_a_message_that_is_done_counts_no_death(tmp_path: Path) -> None:
    """A process that lives sees each message for the first time."""
    attempts = Attempts(tmp_path)

    for offset in range(5):
        assert attempts.begin("t", 0, offset) == 0
        attempts.end("t", 0)

    assert Attempts(tmp_path).begin("t", 0, 4) == 0


def test_dead_processes_are_counted(tmp_path: Path) -> None:
    """Two real processes die over a message; the third one knows it, of this lane and this message."""
    deaths = []
    for _ in range(2):
        command = [sys.executable, "-c", DIES, str(tmp_path), "7"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        deaths.append((done.returncode, done.stdout.strip()))

    assert deaths == [(139, "0"), (139, "1")]
    assert Attempts(tmp_path).begin("t", 1, 7) == 0
    assert Attempts(tmp_path).begin("t", 0, 7) == 2
    assert Attempts(tmp_path).begin("t", 0, 8) == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "a.b", "a_b"]), st.integers(0, 2), st.integers(0, 3), st.booleans()),
        max_size=30,
    )
)
def test_every_lane_has_its_own_count(steps: list[tuple[str, int, int, bool]]) -> None:
    """What is counted is how many processes in a row died over this offset, until it has been passed."""
    with tempfile.TemporaryDirectory() as folder:
        deaths: dict[tuple[str, int], tuple[int, int]] = {}
        for topic, partition, offset, dies in steps:
            at, n = deaths.get((topic, partition), (-1, 0))
            with closing(Attempts(Path(folder))) as attempts:
                assert attempts.begin(topic, partition, offset) == (n if at == offset else 0)
                if dies:
                    deaths[topic, partition] = (offset, n + 1 if at == offset else 1)
                    continue
                attempts.end(topic, partition)
            if offset >= at:
                deaths[topic, partition] = (-1, 0)


def test_messages_repeated_before_the_deadly_one_hide_no_death(tmp_path: Path) -> None:
    """What a dead process had sent but not heard of is done again, and the count goes on."""
    for n_deaths in range(3):
        attempts = Attempts(tmp_path)
        for offset in (5, 6):
            assert attempts.begin("t", 0, offset) == 0
            attempts.end("t", 0)
        assert attempts.begin("t", 0, 7) == n_deaths

    assert Attempts(tmp_path).begin("t", 0, 7) == 3


def test_a_damaged_file_counts_nothing(tmp_path: Path) -> None:
    """A half-written count is none: the message is tried again, not refused."""
    Attempts(tmp_path).begin("t", 0, 7)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"\1\2\3")

    assert Attempts(tmp_path).begin("t", 0, 7) == 0
