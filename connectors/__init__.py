"""Bytes in, bytes out: record types, sources, Kafka and the brokers of the tests."""
