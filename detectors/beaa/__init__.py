"""Bayesian evolutive adversarial autoencoder."""

from detectors.beaa.detector import BEAA

__all__ = ["BEAA"]
