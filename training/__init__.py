"""Offline work: datasets, splits, fit, calibrate, evaluate, report."""
