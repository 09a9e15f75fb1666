"""Which detectors the contract suite runs over, in settings that train in a second or two.

A detector of another package is in the suite as soon as it is installed; those listed here are trained
smaller than by default, or in several settings.
"""

from dataclasses import dataclass, field
from typing import Any

from detectors.registry import names


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A detector in one setting, and the promises that it cannot keep, each with its reason.

    The promises: `dependencies` (rows that break the columns' dependencies score higher), `columns` (a
    deviation planted in one column is named), `distinct` (no two rows score alike), `constant` (far rows
    score higher where every training row is the same), `huge` (a huge value in one column lifts a row above
    all normal rows), `narrow` (one column is enough). The list may only shrink.

    `anomalies` asks for a few known anomalies beside the normal rows.
    """

    detector: str
    parameters: dict[str, Any] = field(default_factory=dict)
    anomalies: bool = False
    waived: dict[str, str] = field(default_factory=dict)


_BEAA = {"n_noise": 3, "n_members": 2, "n_generated": 1000}
_NO_NOISE = "without dependencies there is no noise to read, and a product with it is zero"

# The papers' rates and averages are for hundreds of thousands of steps.
_GAN = {"generator": [16], "batch": 64, "epochs": 8, "learning_rate": 3e-3, "decay": 0.95}
_BIGAN = {"encoder": [16], "judge": 16, **_GAN}
_ANOGAN = {
    "discriminator": [16],
    **_GAN,
    "steps": 15,
    "rate": 0.1,
    "scale_rows": 256,
}

_GANOMALY = {"batch": 64, "epochs": 8, "learning_rate": 3e-3}

_CONTEXTS = {"routes": [3, 7], "names": ["a", "b"], "least_fit": 100, "least_held_out": 20}
_NARROW = {"narrow": "columns that tell the context have to be there"}

_ALONE = "it looks at each column alone"
_STEPS = "it answers in steps, and two rows may stand on the same"
_BOUNDED = "no column can add more than its rarest value"

_SEQUENCE = {
    "length": 4,
    "stride": 4,
    "components": 6,
    "latent": 2,
    "hidden": 8,
    "batch": 64,
    "epochs": 3,
    "steps": 4,
}
# Half of a dozen columns is too narrow to learn anything in so few minibatches.
_FEW_PAPER_DRAWS = {"variant": "paper", "hidden": [32, 32], "n_draws": 32}

SETTINGS: dict[str, Variant] = {
    "aae": Variant(detector="aae", parameters={"epochs": 8}),
    "aae paper": Variant(detector="aae", parameters={"variant": "paper", "epochs": 6}),
    "advae": Variant(detector="advae", parameters={"warmup": 250, "steps": 50, "n_draws": 16}),
    "advae paper": Variant(
        detector="advae", parameters={"steps": 200, "learning_rate": 3e-3, **_FEW_PAPER_DRAWS}
    ),
    "alad": Variant(detector="alad", parameters={**_BIGAN}),
    "alad paper": Variant(detector="alad", parameters={"variant": "paper", "latent": 3, **_BIGAN}),
    "anoean": Variant(detector="anoean", parameters={"hidden": [32, 16], "epochs": 8}),
    "anoean known": Variant(detector="anoean", parameters={"hidden": [32, 16], "epochs": 8}, anomalies=True),
    "anoean paper": Variant(
        detector="anoean",
        parameters={"variant": "paper", "hidden": [32, 16], "epochs": 10, "learning_rate": 2e-3},
        anomalies=True,
    ),
    "anogan": Variant(detector="anogan", parameters={**_ANOGAN, "starts": 1}),
    "anogan paper": Variant(detector="anogan", parameters={"variant": "paper", "latent": 3, **_ANOGAN}),
    "autoencoder": Variant(detector="autoencoder", parameters={"hidden": [16], "epochs": 15}),
    "autoencoder paper": Variant(detector="autoencoder", parameters={"variant": "paper", "epochs": 5}),
    "beaa": Variant(detector="beaa", parameters={"max_noise": 4, "n_members": 2, "n_generated": 1000}),
    "beaa full whitening": Variant(detector="beaa", parameters={"whitening": "full", **_BEAA}),
    "beaa noise": Variant(
        detector="beaa",
        parameters={"measure": "noise", **_BEAA},
        waived={
            "dependencies": "the noise alone grows only along the dependencies",
            "columns": "only the shadow of a column on the noise counts",
            "constant": _NO_NOISE,
        },
    ),
    "beaa reconstruction": Variant(
        detector="beaa", parameters={"measure": "reconstruction", "whitening": "none", **_BEAA}
    ),
    "beaa combined": Variant(
        detector="beaa",
        parameters={"measure": "combined", "whitening": "none", **_BEAA},
        waived={"constant": _NO_NOISE},
    ),
    "beaa truncation": Variant(
        detector="beaa", parameters={"selection": "truncation", "n_noise": 3, "max_epochs": 4}
    ),
    "bn_mixture": Variant(detector="bn_mixture", parameters={"max_components": 3}),
    "bn_mixture hill-climbing": Variant(
        detector="bn_mixture", parameters={"structure": "hc", "n_components": 2}
    ),
    "contexts of bn": Variant(
        detector="contexts", parameters={"detector": "bn", **_CONTEXTS}, waived=_NARROW
    ),
    "contexts of beaa": Variant(
        detector="contexts", parameters={"detector": "beaa", "settings": _BEAA, **_CONTEXTS}, waived=_NARROW
    ),
    "contexts of knn": Variant(
        detector="contexts", parameters={"detector": "knn", **_CONTEXTS}, waived=_NARROW
    ),
    "ecod": Variant(detector="ecod", waived={"dependencies": _ALONE}),
    "ecod paper": Variant(
        detector="ecod",
        parameters={"variant": "paper"},
        waived={"dependencies": _ALONE, "huge": _BOUNDED, "columns": "a tail ends at its rarest value"},
    ),
    "hbos": Variant(detector="hbos", waived={"dependencies": _ALONE, "distinct": _STEPS}),
    "hbos paper": Variant(
        detector="hbos",
        parameters={"variant": "paper"},
        waived={
            "dependencies": _ALONE,
            "distinct": _STEPS,
            "huge": _BOUNDED,
            "constant": "PyOD counts a value on an edge in the bin above it, and looks in the one below",
        },
    ),
    "isolation_forest": Variant(detector="isolation_forest", parameters={"n_trees": 100}),
    "isolation_forest paper": Variant(
        detector="isolation_forest",
        parameters={"variant": "paper"},
        waived={
            "huge": "a column cannot save more splits than there are",
            "constant": "constant columns have no splits",
        },
    ),
    "ocsvm": Variant(detector="ocsvm"),
    "ocsvm landmarks": Variant(detector="ocsvm", parameters={"exact_rows": 100, "n_landmarks": 300}),
    "ocsvm paper": Variant(detector="ocsvm", parameters={"variant": "paper"}),
    "svm": Variant(detector="svm", anomalies=True),
    "svm landmarks": Variant(detector="svm", parameters={"exact_rows": 100}, anomalies=True),
    "svm paper": Variant(detector="svm", parameters={"variant": "paper"}, anomalies=True),
    "bn hill-climbing": Variant(detector="bn", parameters={"structure": "hc"}),
    "egbad": Variant(detector="egbad", parameters={**_BIGAN}),
    "egbad paper": Variant(detector="egbad", parameters={"variant": "paper", "latent": 3, **_BIGAN}),
    "ganomaly": Variant(detector="ganomaly", parameters={"hidden": [24], "latent": 8, **_GANOMALY}),
    "ganomaly paper": Variant(
        detector="ganomaly", parameters={"variant": "paper", "hidden": [16], "latent": 6, **_GANOMALY}
    ),
    "dte_nn": Variant(detector="dte_nn", parameters={"hidden": [64, 64], "epochs": 5}),
    "dte_nn paper": Variant(
        detector="dte_nn",
        parameters={"variant": "paper", "hidden": [64, 64], "epochs": 5, "learning_rate": 1e-3},
    ),
    "gan_discriminator": Variant(
        detector="gan_discriminator", parameters={"discriminator": [64, 32], "epochs": 5, "more_epochs": 10}
    ),
    "gan_discriminator paper": Variant(
        detector="gan_discriminator",
        parameters={"variant": "paper", "epochs": 10},
        waived={"columns": "it was never shown such a column, and may well call it real"},
    ),
    "gan_generator": Variant(detector="gan_generator", parameters={"epochs": 10, "cached": 500, "steps": 5}),
    "gan_generator paper": Variant(
        detector="gan_generator",
        parameters={"variant": "paper", "epochs": 5},
        waived={"dependencies": "every row is compared with one and the same made row"},
    ),
    "knn third": Variant(detector="knn", parameters={"k": 3}),
    "mo_gaal": Variant(
        detector="mo_gaal", parameters={"generators": 4, "batch": 200, "stop_epochs": 2, "more_epochs": 10}
    ),
    "mo_gaal paper": Variant(detector="mo_gaal", parameters={"variant": "paper", "generators": 4}),
    "pu_gan": Variant(detector="pu_gan", parameters=_SEQUENCE),
    "pu_gan gradient": Variant(detector="pu_gan", parameters={"inversion": "gradient", **_SEQUENCE}),
    "pu_gan paper": Variant(
        detector="pu_gan",
        parameters={"variant": "paper", **_SEQUENCE},
        waived={
            "dependencies": "what leaves its few components is not seen, and the largest of them count most",
            "columns": "a column lies across several components, partly beside all of them",
        },
    ),
    "robust_z": Variant(detector="robust_z", waived={"dependencies": "it looks at each column alone"}),
    "vae": Variant(detector="vae", parameters={"steps": 300, "n_draws": 16}),
    "vae paper": Variant(detector="vae", parameters={"steps": 300, **_FEW_PAPER_DRAWS}),
}

VARIANTS: dict[str, Variant] = {name: Variant(detector=name) for name in names()} | SETTINGS
