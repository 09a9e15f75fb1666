"""What has moved in a window, compared with the reference: in the words and units of its features."""

from collections.abc import Sequence

import numpy as np

from detectors.drift import Counts, Edges
from pipeline.drift import Closed, Drift, Moved, Shifted, rounded_share
from pipeline.features.base import Feature, FeatureSet
from pipeline.reference import WINDOW_US

MOST_MOVED = 10
"""Features that a drift alert holds."""

OTHER = "other"


def drift_of(
    closed: Closed, *, monitors: tuple[str, ...], rows: int, features: Sequence[Moved], models: Sequence[str]
) -> Drift:
    """Return what the header says of a window with `monitors` beyond their limits."""
    pairs = zip(models, closed.distances, closed.p_limits, strict=True)
    return Drift(
        begin_us=closed.begin * WINDOW_US,
        end_us=closed.end * WINDOW_US,
        since_us=closed.since * WINDOW_US,
        rows=rows,
        flagged_share=rounded_share(closed.flagged_share),
        monitors=monitors,
        features=tuple(features),
        models=tuple(
            Shifted(model=name, statistic=rounded_share(distance), limit=rounded_share(limit))
            for name, distance, limit in pairs
        ),
    )


def moved_features(
    feature_set: FeatureSet, edges: Edges, observed: Counts, expected: Counts, closed: Closed
) -> list[Moved]:
    """Return the features beyond their limits, the largest index first, each with its largest change."""
    order = np.argsort(-closed.indices, kind="stable")[:MOST_MOVED]
    return [
        _moved(feature_set.features[j], edges[j], observed[j], expected[j], closed, int(j))
        for j in order
        if closed.indices[j] > closed.limits[j]
    ]


def _moved(
    feature: Feature, edges: Edges, observed: Counts, expected: Counts, closed: Closed, j: int
) -> Moved:
    seen, known = observed / max(observed.sum(), 1), expected / max(expected.sum(), 1)
    above: float | None = None
    categories: tuple[str, ...] = ()
    if feature.kind == "categorical":
        at = int(np.abs(seen - known).argmax())
        categories = _categories(feature, edges, at)
        shares = seen[at], known[at]
    else:
        over = np.cumsum(np.stack([seen, known])[:, :0:-1], axis=1)[:, ::-1]
        at = int(np.abs(over[0] - over[1]).argmax())
        above, shares = rounded_share(edges[at]), (over[0, at], over[1, at])
    return Moved(
        name=feature.name,
        kind=feature.kind,
        unit=feature.unit,
        statistic=rounded_share(closed.indices[j]),
        limit=rounded_share(closed.limits[j]),
        observed=rounded_share(shares[0]),
        expected=rounded_share(shares[1]),
        above=above,
        categories=categories,
    )


def _categories(feature: Feature, edges: Edges, at: int) -> tuple[str, ...]:
    """Return the categories in a bin, whose codes lie between two edges."""
    names = (OTHER, *feature.vocabulary)
    low = -1.0 if at == 0 else float(edges[at - 1])
    high = float(edges[at]) if at < edges.size else np.inf
    return tuple(name for code, name in enumerate(names) if low < code <= high)
