"""What the models see of a flow: feature sets, windows and the normaliser."""
