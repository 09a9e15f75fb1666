"""How long topics keep what they hold, as their broker says."""

from collections.abc import Sequence

from kafka.admin import ConfigResource, ConfigResourceType

from connectors.kafka_client import admin, broker_errors
from connectors.kafka_settings import KafkaSettings


def retention_ms(settings: KafkaSettings, names: Sequence[str]) -> dict[str, int]:
    """Return milliseconds for each topic whose retention the broker tells; -1 is for ever.

    Raises
    ------
    BrokerError
        If the broker does not answer or does not let this user see it.
    """
    if not names:
        return {}
    client = admin(settings)
    try:
        with broker_errors(settings, "read the settings of topics"):
            # All settings, not retention.ms alone: the local broker hangs up when asked for one.
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
            found = client.describe_configs(resources, config_filter="all").get("topic", {})
    finally:
        client.close()
    told = {
        name: configs["retention.ms"]["value"] for name, configs in found.items() if "retention.ms" in configs
    }
    return {name: int(value) for name, value in told.items() if value is not None}
