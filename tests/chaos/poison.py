"""A detector of somebody else that takes its process down over one flow."""

import sys
import textwrap
from pathlib import Path

import pyarrow as pa
from ledger import Message, Place

EXIT = 139
EXPLAINED = frozenset({EXIT})
REASONS = frozenset({"poison"})

_DETECTOR = f"""
    import os

    import numpy as np

    from detectors.robust_z import RobustZScore


    class Fatal(RobustZScore):
        name = "fatal"

        def score(self, x):
            if os.environ.get("FATAL") and (np.abs(x).max(axis=1) > float(os.environ["FATAL"])).any():
                os._exit({EXIT})
            return super().score(x)
"""

_DURATION_S = 1e300
"""Of the fatal flow: 123 standard deviations on the model's logarithmic scale, any other at most 38."""
FATAL = "75"


def install(models: Path) -> None:
    """Put the detector beside the models, where this process and the workers find it."""
    folder = models / "site"
    info = folder / "fatal-0.1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / "fatal.py").write_text(textwrap.dedent(_DETECTOR))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fatal\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[weir.detectors]\nfatal = fatal:Fatal\n")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def environment(models: Path) -> dict[str, str]:
    """Return the variables with which a worker finds the detector, and dies of it."""
    return {"PYTHONPATH": str(models / "site"), "FATAL": FATAL}


def fatal_message(like: Message) -> Message:
    """Return a flows message as another producer would write it, one flow of which is fatal."""
    rows = like.rows().slice(0, 5).combine_chunks().to_batches()[0]
    ids = pa.array([f"fatal-{flow}" for flow in rows.column("flow_id").to_pylist()])
    durations = pa.array([*rows.column("duration").to_pylist()[:-1], _DURATION_S])
    for name, values in (("flow_id", ids), ("duration", durations)):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), values)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    kept = ("content-type", "weir-record")
    headers = {name: like.headers[name] for name in kept} | {"weir-rows": str(rows.num_rows).encode()}
    return Message(headers, sink.getvalue().to_pybytes())


def victim(flows: list[tuple[Place, Message]]) -> tuple[Place, Message] | None:
    """Return the last message with rows, whose lane and time the fatal one takes."""
    return next((found for found in reversed(flows) if found[1].number("weir-rows") > 0), None)
