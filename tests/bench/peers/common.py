"""What the peers share: the model as plain numpy, and the span that is measured.

Nothing of weir is imported here: peers run in an environment of their own, as their users would run them.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Job:
    """Where to read, how many messages, where alerts go."""

    servers: str
    flows: str
    alerts: str
    n: int
    model: str
    detector: str

    @classmethod
    def given(cls) -> "Job":
        """Return what the command line says."""
        servers, flows, alerts, n, model, detector = sys.argv[1:]
        return cls(servers, flows, alerts, int(n), model, detector)


class Model:
    """BEAA's score of normalised features: the squared norm of an affine map."""

    def __init__(self, path: str) -> None:
        found = np.load(path)
        self.names: list[str] = found["names"].tolist()
        self.threshold = float(found["threshold"])
        self.train = found["train"]  # rows in the features' own units
        self._logs, self._centre, self._scale = found["logs"], found["centre"], found["scale"]
        self._weights, self._constants = found["weights"], found["constants"]

    def values(self, flow: Mapping[str, Any]) -> list[float]:
        """Return the features of a flow in the model's order."""
        return [flow[name] for name in self.names]

    def normalised(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return features, of one flow or of many, as the model takes them."""
        scaled: npt.NDArray[np.float64] = (np.where(self._logs, np.log1p(x), x) - self._centre) / self._scale
        return scaled

    def score_one(self, flow: Mapping[str, Any]) -> float:
        """Return the score of one flow."""
        y = self._weights @ self.normalised(np.array(self.values(flow), np.float64)) + self._constants
        return float(y @ y)

    def score(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the scores of many flows."""
        y = self.normalised(x) @ self._weights.T + self._constants
        scores: npt.NDArray[np.float64] = np.einsum("ij,ij->i", y, y)
        return scores


class Meter:
    """CPU (of the process, all threads) and wall time from the first message to the last."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._seen = 0
        self._began = self._began_cpu = self._wall_s = self._cpu_s = 0.0

    def add(self, n: int = 1) -> bool:
        """Count messages that are about to be scored, or were; return whether that was the last."""
        if self._seen == 0:
            self._began, self._began_cpu = time.monotonic(), time.process_time()
        self._seen += n
        if self._seen < self._n:
            return False
        self._wall_s, self._cpu_s = time.monotonic() - self._began, time.process_time() - self._began_cpu
        return True

    def tell(self) -> None:
        """Print the figures."""
        if self._seen < self._n:
            raise SystemExit(f"only {self._seen} of {self._n} messages came")
        print(json.dumps({"rows": self._seen, "wall_s": self._wall_s, "cpu_s": self._cpu_s}))
