"""Which lane a row goes to: its partition of the flows topic, and so its place in the order."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.errors import BrokerError

LaneBy = Literal["sensor", "src", "dst"]
_COLUMN = {"sensor": "sensor", "src": "src_ip", "dst": "dst_ip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneMap:
    """Maps rows to lanes: all rows of a sensor (or of a source or destination address) to one.

    Examples
    --------
    >>> LaneMap(n_lanes=4, sensor_lanes={"border": 2}).lane("border")
    2
    """

    n_lanes: int
    lane_by: LaneBy = "sensor"
    sensor_lanes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sensor_lanes and self.lane_by != "sensor":
            raise BrokerError(
                f"sensor_lanes is set with lane_by: {self.lane_by}, which spreads sensors; keep one"
            )
        for sensor, lane in self.sensor_lanes.items():
            if not 0 <= lane < self.n_lanes:
                raise BrokerError(
                    f"sensor_lanes: {sensor} goes to lane {lane}, expected 0 to {self.n_lanes - 1}, "
                    "the partitions of the flows topic"
                )

    @property
    def id(self) -> str:
        """Short text that differs where two maps may send a row to different lanes."""
        text = json.dumps([self.n_lanes, self.lane_by, dict(self.sensor_lanes)], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()

    def lane(self, key: str | bytes | None) -> int:
        """Return the lane of a sensor's name or of an address."""
        if isinstance(key, str) and key in self.sensor_lanes:
            return self.sensor_lanes[key]
        data = key.encode() if isinstance(key, str) else key or b""
        return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") % self.n_lanes

    def split(self, rows: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of each lane, in their order; lanes in order."""
        if rows.num_rows == 0:
            return
        keys = pc.dictionary_encode(rows.column(_COLUMN[self.lane_by]), null_encoding="encode")
        lane_of_key = np.array([self.lane(key) for key in keys.dictionary.to_pylist()])
        present = np.unique(lane_of_key)
        if present.size == 1:
            yield int(present[0]), rows
            return
        lane_of_row = lane_of_key[np.asarray(keys.indices)]
        for lane in present:
            yield int(lane), rows.take(pa.array(np.flatnonzero(lane_of_row == lane)))
