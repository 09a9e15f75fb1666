"""Faust agents: they carry messages, plain functions decide."""
