"""The errors of training: what, where, what was expected, what to do."""

from pipeline.errors import PipelineError


class TrainingError(PipelineError):
    """A model cannot be trained or judged as asked."""


class DatasetError(TrainingError):
    """A dataset is unknown, not where it was looked for, or lacks what training needs."""
