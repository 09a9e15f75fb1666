"""PU bagging, a recurrent GAN over windows of flows, and the way back into its noise."""

from detectors.pu_gan.detector import PUGAN

__all__ = ["PUGAN"]
