"""A process that writes flows slowly, to be killed: python writer_process.py SERVERS PREFIX N."""

import sys
import time

from brokers import conn_source

from connectors.kafka_settings import KafkaSettings
from connectors.kafka_writer import FlowsWriter, WriterOptions
from connectors.topics import Topics


def main(servers: str, prefix: str, n_rows: int) -> None:
    """Write chunk by chunk and say how far it is."""
    source = conn_source(n_rows)
    settings = KafkaSettings(bootstrap_servers=tuple(servers.split(",")))
    options = WriterOptions(rows=200, linger_s=0.01)
    with FlowsWriter(
        settings, Topics(prefix), source_id=source.source_id, record_type=source.record_type, options=options
    ) as writer:
        for chunk in source.chunks(writer.start, rows=170):
            writer.write(chunk)
            print(writer.done, flush=True)
            time.sleep(0.002)
        writer.finish()
        print("finished", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
