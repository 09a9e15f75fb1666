"""No hash, equal by chance or by design, can change what is counted; and compiled code finds a place."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import pipeline
from pipeline.features.window_kernels import TRIPLES, entity, hash_entity, mix, pair, triple
from pipeline.features.window_tables import Sizes, Tables, new_tables
from pipeline.features.windows import Windows, WindowSpec

SAME = np.uint64(0xABCD_0123_4567_89EF)


def tables() -> Tables:
    """Return tables with room for a hundred of each."""
    return new_tables(Sizes(1, 100, 100, 100), 1)


def test_entities_of_one_hash_are_told_apart() -> None:
    """An entity is known by both words of its address and by its sensor, each time it comes."""
    there = tables()
    keys = [(low, high, sensor) for low in (0, 1) for high in (0, 1, 2**63) for sensor in (0, 1)]
    words = [(np.array([low, high], np.uint64), np.uint64(sensor)) for low, high, sensor in keys]

    for _ in range(2):
        assert [entity(there, *key, SAME) for key in words] == list(range(len(keys)))


def test_pairs_of_one_hash_are_told_apart() -> None:
    """A pair is known by its source and its destination."""
    there = tables()
    keys = [np.uint64(src << 32 | dst) for src in (3, 1, 2) for dst in (2, 1, 3)]

    for _ in range(2):
        assert [pair(there, key, SAME) for key in keys] == list(range(len(keys)))


def test_triples_of_one_hash_are_told_apart() -> None:
    """A triple is known by its pair and its port; what was noted in its slot stays there."""
    there = tables()
    keys = [np.uint64(number << 17 | port) for number in (5, 0, 7) for port in (65_536, 0, 1)]
    for seen, key in enumerate(keys, 1):
        there.triples[triple(there, key, SAME), 1] = seen

    assert [int(there.triples[triple(there, key, SAME), 1]) for key in keys] == list(range(1, 10))
    assert there.used[TRIPLES] == len(keys)


def unmixed(word: int) -> int:
    """Return the word that the finaliser of splitmix64 turns into `word`."""
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        word ^= word >> shift ^ word >> 2 * shift
        word = word * pow(factor, -1, 2**64) % 2**64
    return word


def test_crafted_addresses_are_counted_apart() -> None:
    """A thousand addresses made to share one 64-bit hash, by one who knows the seed, are a thousand."""
    seed, n = np.uint64(12_345), 1_000
    lows = np.arange(n, dtype=np.uint64)
    target = unmixed(unmixed(int(SAME)))
    highs = [(target - int(mix(low ^ seed))) % 2**64 for low in lows]
    src = np.stack([lows, np.array(highs, np.uint64)], axis=1)
    assert {int(hash_entity(address, np.uint64(0), seed)) for address in src} == {int(SAME)}

    windows = Windows(WindowSpec(widths_s=(10,)), hash_seed=int(seed))
    counts = windows.update(
        sensors=["gate"],
        sensor=np.zeros(n, np.int64),
        src=src.view(np.uint8),
        dst=np.zeros((n, 16), np.uint8),
        dst_port=np.zeros(n, np.int64),
        src_bytes=np.zeros(n, np.int64),
        failed=np.zeros(n, np.bool_),
        event_time_us=np.zeros(n, np.int64),
    )

    assert counts[:, windows.names.index("src_flows_10s")].tolist() == [1] * n
    assert counts[:, windows.names.index("dst_srcs_10s")].tolist() == list(range(1, n + 1))


def test_without_a_place_for_compiled_code_it_is_compiled_again(tmp_path: Path) -> None:
    """An installed package that nobody may write beside works for a user without a home."""
    (package,) = pipeline.__path__
    shutil.copytree(package, tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pipeline" / "features" / "__pycache__").touch()  # stops root too
    program = "import numpy as np; from pipeline.features.window_kernels import mix; print(mix(np.uint64(1)))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CACHE")}

    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        cwd=tmp_path,
        env=environment | {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout.strip(), done.stderr) == ("6238072747940578789", "")
