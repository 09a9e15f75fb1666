"""Quix Streams: a StreamingDataFrame that scores each message and sends the anomalous ones on."""

from typing import Any

from common import Job, Meter, Model
from quixstreams import Application


def main() -> None:
    """Score `n` messages."""
    job = Job.given()
    model, meter = Model(job.model), Meter(job.n)
    app = Application(
        broker_address=job.servers,
        consumer_group=job.alerts,
        auto_offset_reset="earliest",
        loglevel="WARNING",
    )

    def score(flow: dict[str, Any]) -> dict[str, Any]:
        flow["score"] = model.score_one(flow)
        if meter.add():
            app.stop()
        return flow

    flows = app.topic(job.flows, value_deserializer="json")
    alerts = app.topic(job.alerts, value_serializer="json")
    stream = app.dataframe(flows)
    stream = stream.apply(score)
    stream = stream.filter(lambda flow: flow["score"] > model.threshold)
    stream.to_topic(alerts)
    app.run()
    meter.tell()


if __name__ == "__main__":
    main()
