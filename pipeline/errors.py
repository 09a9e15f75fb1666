"""The errors of the pipeline: what, where, what was expected, what to do."""


class PipelineError(Exception):
    """The pipeline cannot do what it was asked."""


class BusyError(PipelineError):
    """Something else holds what is needed; it may let go of it."""


class SettingsError(PipelineError):
    """Settings are wrong; the message lists every mistake with its dotted path."""


class BundleError(PipelineError):
    """A model bundle is missing, damaged, or does not fit what it is used for."""


class FeatureSetError(PipelineError):
    """A feature set is unknown, or two that meet are not the same."""


class JournalError(PipelineError):
    """The journal of a lane contradicts the topics it belongs to."""


class CaptureError(PipelineError):
    """A folder of captured features cannot be written, or is not what it was taken for."""
