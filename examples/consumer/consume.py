#!/usr/bin/env python3
"""Reads the final events of Holdfast's transfers and prints one line for each transfer that ended.

It knows nothing of Holdfast but schemas/transfer-event.v1.json: where the topics are, what is in
them, and that an event comes at least once with the same `ce_id`.

    python3 -m venv venv && venv/bin/pip install -r examples/consumer/requirements.txt
    venv/bin/python examples/consumer/consume.py --brokers localhost:9092 --shards 2
"""

import argparse
import json
import pathlib
import sys
from decimal import Decimal

import confluent_kafka
import jsonschema

SCHEMA = pathlib.Path(__file__).parents[2] / "schemas" / "transfer-event.v1.json"
FINAL = ("committed", "rejected", "cancelled")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--brokers", default="localhost:9092", help="host:port, comma-separated")
    parser.add_argument("--shards", type=int, default=2, help="how many shards there are")
    parser.add_argument("--prefix", default="", help="HOLDFAST_KAFKA_TOPIC_PREFIX")
    parser.add_argument("--group", default="example-consumer", help="a consumer group of your own")
    parser.add_argument("--until-end", action="store_true", help="end when nothing has come for 5 s")
    return parser.parse_args()


class Ends:
    """Which transfers have ended. A real consumer keeps this where it keeps its own results, and
    writes both in one transaction: then nothing is done twice, whatever is delivered twice."""

    def __init__(self):
        self.seen = set()
        self.moved = {}
        self.repeats = 0

    def take(self, event_id, event):
        if event_id in self.seen:
            self.repeats += 1
            return None
        self.seen.add(event_id)
        transfer = event["transfer"]
        if event["type"] == "transfer.committed":
            currency = transfer["currency"]
            amount = Decimal(transfer["amount"])  # text: floats lose cents
            self.moved[currency] = self.moved.get(currency, Decimal()) + amount
        end = event["type"].removeprefix("transfer.")
        why = f" ({event['reason']})" if "reason" in event else ""
        return (
            f"{event['at']} {transfer['id']} {transfer['amount']} {transfer['currency']} "
            f"{transfer['source']} -> {transfer['destination']} {end}{why}"
        )


def main():
    args = arguments()
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    topics = [
        f"{args.prefix}transfer.{end}.{shard}" for end in FINAL for shard in range(args.shards)
    ]
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": args.brokers,
            "group.id": args.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(topics)
    ends, quiet = Ends(), 0
    try:
        while not (args.until_end and quiet >= 5):
            message = consumer.poll(1.0)
            if message is None:
                quiet += 1
                continue
            if message.error():
                sys.exit(f"consume: {message.error()}")
            quiet = 0
            event = json.loads(message.value())
            # Newer than this program: stop here, rather than guess; go on with a newer program.
            if event.get("version") != 1:
                sys.exit(f"consume: version {event.get('version')} of an event: upgrade this program")
            schema.validate(event)
            headers = dict(message.headers() or [])
            line = ends.take(headers["ce_id"].decode(), event)
            if line:
                print(line)
            consumer.commit(message, asynchronous=True)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
    for currency, amount in sorted(ends.moved.items()):
        print(f"moved {amount} {currency}", file=sys.stderr)
    print(f"{len(ends.seen)} transfers ended, {ends.repeats} events came again", file=sys.stderr)


if __name__ == "__main__":
    main()
