"""Compile the windows and the normaliser once, so that no worker spends its first seconds on it."""  # noqa: INP001 a script

from connectors.sources import Generated, open_source
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import LaneFeatures
from pipeline.features.normaliser import Normaliser


def main() -> None:
    """Take some synthetic flows through the feature set that has windows, and normalise them."""
    chosen = feature_set("conn")
    lane = LaneFeatures(chosen)
    source = open_source("synthetic", generated=Generated(scale=0.05))
    chunk = next(source.chunks())
    rows = lane.process(chosen.check(chunk.rows).rows)
    Normaliser.fit(chosen, rows, kinds=frozenset({"numeric"}), scaling="standard").matrix(rows)
    print(f"compiled: {rows.num_rows} flows")  # noqa: T201 the output of a build step


if __name__ == "__main__":
    main()
