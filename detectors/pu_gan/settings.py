"""What the variants of PU-GAN set, and which values its parameters may have."""

from collections.abc import Mapping, Sequence
from typing import Any

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "stable": {
        "inversion": "encoder",
        "length": 8,
        "stride": 4,
        "components": 10,
        "latent": 4,
        "hidden": 32,
        "depth": 1,
        "output": "linear",
        "residuals": "whitened",
        "scaled": True,
        "discriminator_share": 0.1,
        "start": "encoder",
        "steps": 50,
        "step_size": 0.05,
        "generator_steps": 1,
        "learning_rate": 1e-3,
        "discriminator_rate": 1e-3,
        "beta": 0.5,
        "descent": "adam",
        "smoothing": 0.9,
        "penalty": 1.0,
        "negatives": 1.0,
        "average": 0.98,
        "batch": 256,
        "epochs": 40,
        "patience": 6,
        "n_bags": 30,
        "bag_rows": 10_000,
    },
    "paper": {
        "inversion": "gradient",
        "length": 30,
        "stride": 10,
        "components": 6,
        "latent": 15,
        "hidden": 100,
        "depth": 3,
        "output": "tanh",
        "residuals": "components",
        "scaled": False,
        "discriminator_share": 0.8,
        "start": "random",
        "steps": 1000,
        "step_size": 0.1,
        "generator_steps": 3,
        "learning_rate": 1e-3,
        "discriminator_rate": 0.1,
        "beta": 0.9,
        "descent": "sgd",
        "smoothing": 1.0,
        "penalty": 0.0,
        "negatives": 0.0,
        "average": 0.0,
        "batch": 500,
        "epochs": 100,
        "patience": 0,
        "n_bags": 100,
        "bag_rows": 0,
    },
}

CHOICES: Mapping[str, Sequence[object]] = {
    "history_of": ("lane", "source"),
    "inversion": ("encoder", "gradient"),
    "output": ("linear", "tanh"),
    "residuals": ("whitened", "columns", "components"),
    "scaled": (True, False),
    "start": ("encoder", "random"),
    "descent": ("adam", "sgd"),
    "classifier": ("tree", "boosting"),
}

LEAST: Mapping[str, int] = {
    "length": 1,
    "stride": 1,
    "components": 1,
    "latent": 1,
    "hidden": 1,
    "depth": 1,
    "steps": 1,
    "generator_steps": 1,
    "batch": 2,
    "epochs": 1,
    "patience": 0,
    "n_bags": 1,
    "bag_rows": 0,
}
"""Whole numbers, and the least that each may be."""

NOTHING = -1e-300
"""Just below 0: a range that begins here has 0 in it."""

RANGES = (
    ("discriminator_share", NOTHING, 1.0),
    ("step_size", 0.0, 10.0),
    ("learning_rate", 0.0, 1.0),
    ("discriminator_rate", 0.0, 1.0),
    ("encoder_rate", 0.0, 1.0),
    ("beta", NOTHING, 0.999),
    ("smoothing", 0.5, 1.0),
    ("penalty", NOTHING, 1e6),
    ("negatives", NOTHING, 1e6),
    ("average", NOTHING, 0.9999),
    ("real_weight", NOTHING, 1e6),
    ("residual_floor", 0.0, 10.0),
    ("cap", 0.0, 1e12),
)
"""Parameter, and the ends of its range; the first does not belong to it."""
