"""The running stream: features, judgement, alerts, workers and commands."""
