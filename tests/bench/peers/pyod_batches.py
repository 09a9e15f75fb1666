"""kafka-python and PyOD: polls of up to 1,000 messages, scored as a batch by a detector of PyOD."""

import numpy as np
import orjson
from common import Job, Meter, Model
from kafka import KafkaConsumer, KafkaProducer
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest

DETECTORS = {"iforest": IForest, "ecod": ECOD}


def main() -> None:
    """Score `n` messages."""
    job = Job.given()
    model, meter = Model(job.model), Meter(job.n)
    detector = DETECTORS[job.detector](contamination=0.001)
    detector.fit(model.normalised(model.train))
    consumer = KafkaConsumer(
        job.flows,
        bootstrap_servers=job.servers,
        group_id=job.alerts,
        auto_offset_reset="earliest",
        value_deserializer=orjson.loads,
    )
    producer = KafkaProducer(bootstrap_servers=job.servers, value_serializer=orjson.dumps)
    done = False
    while not done:
        for messages in consumer.poll(1000, max_records=1000).values():
            flows = [message.value for message in messages]
            x = np.array([model.values(flow) for flow in flows], np.float64)
            meter.add(0)
            scores = detector.decision_function(model.normalised(x))
            for index in np.flatnonzero(scores > detector.threshold_).tolist():
                producer.send(job.alerts, flows[index] | {"score": float(scores[index])})
            done = meter.add(len(messages))
    producer.flush()
    consumer.close()
    meter.tell()


if __name__ == "__main__":
    main()
