"""The errors of the connectors: what, where, what was expected, what to do."""


class ConnectorError(Exception):
    """Something outside could not be read, written or reached."""


class RecordError(ConnectorError):
    """A message cannot be read as records at all; `reason` is a short snake_case word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class SourceError(ConnectorError):
    """A source cannot be opened or is not what it was said to be."""


class NotYetError(SourceError):
    """A file that is still written to holds no record yet."""


class BrokerError(ConnectorError):
    """A broker, or a topic on it, is not there or does not answer."""


class RefusedError(BrokerError):
    """A broker refuses this user; it will do so until a person changes something."""
