"""Scores that are sums of parts: residuals, latent directions, a function's confidence.

    SumOfParts(inputs, [Residuals(...), Directions(...)], "squared_deviations")

Every part sees the rows in the units of `Inputs` and says its terms, so that all detectors built
from parts score, explain and are saved in the same way.
"""
