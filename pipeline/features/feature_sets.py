"""The feature sets by name."""

from difflib import get_close_matches

from pipeline.errors import FeatureSetError
from pipeline.features.base import FeatureSet
from pipeline.features.conn import CONN_FEATURES
from pipeline.features.kdd99 import KDD99
from pipeline.features.nsl_kdd import NSL_KDD
from pipeline.features.unsw_nb15 import UNSW_NB15

FEATURE_SETS: dict[str, FeatureSet] = {s.name: s for s in (NSL_KDD, KDD99, UNSW_NB15, CONN_FEATURES)}


def feature_set(name: str) -> FeatureSet:
    """Return the feature set called `name`.

    Raises
    ------
    FeatureSetError
        If there is none; the message lists all and the nearest name.

    Examples
    --------
    >>> feature_set("conn").required
    ('src_ip', 'dst_ip')
    """
    if name in FEATURE_SETS:
        return FEATURE_SETS[name]
    near = get_close_matches(name, FEATURE_SETS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    known = ", ".join(sorted(FEATURE_SETS))
    raise FeatureSetError(f"no feature set is called {name!r}; there are {known}{hint}")
