"""What the judge says of a flagged flow: the rows of a detections message."""

import msgspec
import pyarrow as pa

from connectors.records import CONN
from pipeline.features.base import CARRIED

FLAGGED = pa.schema(
    [
        *(CONN.schema.field(name) for name in CARRIED),
        pa.field("clock_us", pa.int64(), nullable=False),  # lane clock at this row
        pa.field("p_value", pa.float64(), nullable=False),  # the panel's, after fusion
        pa.field("scores", pa.list_(pa.float64()), nullable=False),  # one a model, in panel order
        pa.field("p_values", pa.list_(pa.float64()), nullable=False),  # the same
        pa.field("decided", pa.uint8(), nullable=False),  # index of the model that explains
        pa.field("leading", pa.string(), nullable=False),  # leading term, "noise_direction:n3"
        pa.field("about", pa.string(), nullable=False),  # flow, src, dst or pair
        pa.field("suppressed", pa.string()),  # JSON of Suppressed; null where the row may make an alert
        pa.field("reasons", pa.string()),  # JSON of Reasons; null where grouping cannot publish the row
    ]
)
"""Schema of a detections message."""


class FeatureShare(msgspec.Struct, frozen=True, kw_only=True):
    """One feature's part in a term, in the feature's own unit."""

    name: str
    observed: float | str  # a category is text
    expected: float | str
    unit: str
    contribution: float  # signed, of the term's deviation, in standard deviations


class Loading(msgspec.Struct, frozen=True, kw_only=True):
    """How strongly a column moves a noise direction on normal traffic."""

    name: str  # `src_bytes`, or `service=http` for a category
    value: float  # standard deviation of its contribution; negative where the direction falls with it


class TermShare(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of a score."""

    kind: str  # noise_direction, residual, node, feature
    id: str
    deviation: float  # signed, standard deviations of held-out normal traffic
    term: float  # part of the score
    share: float  # term / score, 0 to 1
    features: tuple[FeatureShare, ...]  # largest contributions first
    loadings: tuple[Loading, ...] = ()  # of a noise direction, the largest first: what it stands for


class Reasons(msgspec.Struct, frozen=True, kw_only=True):
    """Why one flow was flagged: the largest terms first."""

    score_kind: str
    additive: bool
    terms: tuple[TermShare, ...]

    def to_json(self) -> str:
        """Return JSON, the same bytes for the same reasons."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Reasons":
        """Read what `to_json` wrote."""
        return msgspec.json.decode(text, type=cls)
