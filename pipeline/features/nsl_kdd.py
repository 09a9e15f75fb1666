"""The feature set `nsl-kdd`: the 41 columns of NSL-KDD as they are published."""

from connectors.records import KDD
from pipeline.features import kdd
from pipeline.features.base import FeatureSet

NSL_KDD = FeatureSet(name="nsl-kdd", version=1, record_type=KDD, features=kdd.FEATURES, compute=kdd.compute)
