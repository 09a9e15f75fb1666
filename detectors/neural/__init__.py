"""Networks in training: torch is imported here alone, and only by `fit`."""
