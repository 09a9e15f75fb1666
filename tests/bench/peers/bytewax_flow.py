"""Bytewax: a dataflow that decodes, scores and filters each message, one worker."""

from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from common import Job, Meter, Model


def main() -> None:
    """Score `n` messages."""
    job = Job.given()
    model, meter = Model(job.model), Meter(job.n)

    def score(message: KafkaSourceMessage[Any, Any]) -> dict[str, Any]:
        meter.add()
        flow: dict[str, Any] = orjson.loads(message.value)
        flow["score"] = model.score_one(flow)
        return flow

    flow = Dataflow("score")
    source = kop.input("flows", flow, brokers=[job.servers], topics=[job.flows], tail=False)
    scored = op.map("score", source.oks, score)
    anomalous = op.filter("anomalous", scored, lambda flow: flow["score"] > model.threshold)
    sent = op.map("encode", anomalous, lambda flow: KafkaSinkMessage(None, orjson.dumps(flow)))
    kop.output("alerts", sent, brokers=[job.servers], topic=job.alerts)
    run_main(flow)
    meter.tell()


if __name__ == "__main__":
    main()
