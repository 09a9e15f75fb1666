"""What a broker of a run needs to come back."""

from pathlib import Path

import pytest
from cluster import EPHEMERAL, lasting_port


@pytest.mark.skipif(not EPHEMERAL.exists(), reason="this system does not say which ports connections get")
def test_no_connection_is_given_the_port_of_a_broker() -> None:
    """Or a client that calls while the broker is away would sit on it."""
    first = int(Path(EPHEMERAL).read_text().split()[0])

    assert all(port < first for port in (lasting_port() for _ in range(20)))
