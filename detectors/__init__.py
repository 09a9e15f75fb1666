"""Pure numerics: detectors, calibration and explanation over arrays."""
