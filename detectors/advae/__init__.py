"""The self-adversarial variational autoencoder."""

from detectors.advae.detector import AdVAE

__all__ = ["AdVAE"]
