"""The books of an installation balance: verdicts and dead letters, each counted once."""

import pytest
from brokers import conn_rows, fresh_topics

from connectors.dead_letters import REDRIVEN, DeadLetter, origin_id
from connectors.kafka_settings import KafkaSettings
from connectors.publish import publish
from connectors.topics import TopicAdmin, Topics, TopicSpec
from connectors.wire import encode
from pipeline.account import Accountant
from pipeline.messages import DetectionsHeaders
from pipeline.settings import Settings, load_settings

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(local_broker: KafkaSettings) -> Settings:
    topics = fresh_topics()
    given = {"topics.prefix": topics.prefix, "kafka.bootstrap_servers": local_broker.servers}
    with TopicAdmin(local_broker) as admin:
        names = (topics.detections("main"), topics.dead_letters)
        admin.create([TopicSpec(name=name, partitions=2) for name in names])
    return load_settings(overrides=given, env={})


def write_letter(settings: Settings, stage: str, rows: int, offset: int = 0) -> None:
    topics = Topics(settings.topics.prefix)
    letter = DeadLetter(
        id=origin_id(stage, topics.flows, 0, offset),
        stage=stage,
        reason="failed",
        detail="it failed",
        value=b"",
        rows=rows,
        topic=topics.flows,
        partition=0,
        offset=offset,
    )
    publish(settings.kafka, [(topics.dead_letters, 0, b"", letter.to_kafka())])


def write_verdict(
    settings: Settings, offset: int, rows: int, lane: int = 0, *, flagged: bool = False
) -> None:
    batch = conn_rows(rows if flagged else 0, prefix=f"{lane}-{offset}-")
    headers = DetectionsHeaders(
        panel={},
        rows=rows,
        flagged=batch.num_rows,
        input_offset=offset,
        flows_offset=offset,
        clock_us=0,
        clock_end_us=0,
    )
    topic = Topics(settings.topics.prefix).detections("main")
    publish(settings.kafka, [(topic, lane, encode(batch), headers.to_kafka())])


def test_each_verdict_and_each_letter_counts_once(settings: Settings) -> None:
    """However often it is repeated, and however often the books are brought up to date."""
    with Accountant(settings) as accountant:
        for _ in range(2):
            write_verdict(settings, 0, 20)
            write_verdict(settings, 0, 7, lane=1, flagged=True)
            write_letter(settings, "ingest", 1)
            write_letter(settings, "features", 20, offset=1)
            account = accountant.update()
        write_letter(settings, "detect", 3, offset=2)
        accountant.update()

    assert (account.n_scored, account.n_dead, account.n_accounted) == (27, 24, 51)
    assert set(account.flagged) == {f"1-0-{i}" for i in range(7)}


def test_letters_of_the_alerts_stage_are_no_flows_lost(settings: Settings) -> None:
    """Their flows are scored: only their alerts are missing."""
    write_verdict(settings, 0, 20)
    write_letter(settings, "alerts", 20)

    with Accountant(settings) as accountant:
        account = accountant.update()

    assert (account.n_scored, account.n_dead) == (20, 0)


def test_a_redriven_flow_counts_as_the_letter_and_as_the_flow(settings: Settings) -> None:
    """What was sent, and again what was redriven: scored + dead says both."""
    n_sent, n_redriven = 20, 5
    write_verdict(settings, 0, n_sent - n_redriven)
    write_letter(settings, "features", n_redriven)
    write_verdict(settings, 9, n_redriven)  # of the message with the header weir-redriven

    with Accountant(settings) as accountant:
        account = accountant.update()

    assert account.n_accounted == n_sent + n_redriven


def test_a_message_of_others_in_a_journal_is_no_verdict(settings: Settings) -> None:
    """Whoever may write to the topics cannot stop the count."""
    topics = Topics(settings.topics.prefix)
    foreign = [(topics.detections("main"), 0, b"", [(REDRIVEN, b"x")]), (topics.dead_letters, 0, b"", [])]
    publish(settings.kafka, foreign)
    write_verdict(settings, 0, 20)

    with Accountant(settings) as accountant:
        account = accountant.update()

    assert (account.n_scored, account.n_dead) == (20, 0)
