"""No framework: confluent-kafka, batches of up to 1,000 messages, the same numpy score of a whole batch."""

import numpy as np
import orjson
from common import Job, Meter, Model
from confluent_kafka import Consumer, Producer


def main() -> None:
    """Score `n` messages."""
    job = Job.given()
    model, meter = Model(job.model), Meter(job.n)
    consumer = Consumer(
        {"bootstrap.servers": job.servers, "group.id": job.alerts, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([job.flows])
    producer = Producer({"bootstrap.servers": job.servers})
    done = False
    while not done:
        messages = consumer.consume(1000, timeout=1.0)
        if not messages:
            continue
        meter.add(0)
        flows = [orjson.loads(message.value()) for message in messages]
        scores = model.score(np.array([model.values(flow) for flow in flows], np.float64))
        for index in np.flatnonzero(scores > model.threshold).tolist():
            producer.produce(job.alerts, orjson.dumps(flows[index] | {"score": float(scores[index])}))
        done = meter.add(len(messages))
    producer.flush()
    consumer.close()
    meter.tell()


if __name__ == "__main__":
    main()
