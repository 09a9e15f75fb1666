"""The feature set `kdd99`: the 41 columns of KDD Cup 1999.

The same features as `nsl-kdd` under another name: models of the one are not taken for the other,
because a tenth of one is repeats and the other has none.
"""

from connectors.records import KDD
from pipeline.features import kdd
from pipeline.features.base import FeatureSet

KDD99 = FeatureSet(name="kdd99", version=1, record_type=KDD, features=kdd.FEATURES, compute=kdd.compute)
