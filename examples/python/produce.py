"""Produces the lines of standard input, `KEY<Tab>VALUE` each, to a topic: every line is stored exactly once."""

import argparse
import sys
import time

from cluster import ApiError, Broker, Cluster, call, persistently
from highwater.v1 import produce_pb2
from record_batch import Producer, Record, encode

# Lines, and bytes of them, that are sent at once: a batch must stay below the topic's max.message.bytes (1 MiB).
CHUNK_RECORDS = 1000
CHUNK_BYTES = 500_000


class IdempotentProducer:
    """Sends batches that carry the producer's id and count their records, so that brokers know one that comes again.

    A batch is sent again, byte for byte the same, until it is acknowledged: also where nobody knows whether the last attempt
    stored it. The next batch of a partition follows only then, so the order stays.
    """

    def __init__(self, cluster: Cluster, topic: str):
        self.cluster, self.topic = cluster, topic
        self.partitions = cluster.refresh(topic)
        self.producer = persistently(self._init)
        self.sequences = [0] * self.partitions  # of the next record, by partition

    def _init(self) -> Producer:
        broker = self.cluster.at(self.cluster.some_address())
        answer = call(broker.produce.InitProducerId, produce_pb2.InitProducerIdRequest())
        return Producer(answer.producer_id, answer.producer_epoch)

    def send(self, records: list[Record]) -> None:
        by_partition: dict[int, list[Record]] = {}
        for record in records:
            by_partition.setdefault(partition_of(record.key, self.partitions), []).append(record)
        self.waiting = {}
        for partition, share in by_partition.items():
            self.waiting[partition] = encode(share, self.producer, self.sequences[partition])
            self.sequences[partition] += len(share)
        persistently(self._send_waiting)

    def _send_waiting(self) -> None:
        """Sends what is not acknowledged, one request for each leader."""
        failure = ApiError("LEADER_NOT_AVAILABLE", "a partition has no leader", True, {})
        for leader, partitions in self.cluster.by_leader(self.topic, self.waiting).items():
            try:
                self._send_to(leader, partitions)
            except ApiError as error:
                if not error.retriable:
                    raise
                failure = error
        if self.waiting:
            self.cluster.refresh(self.topic)
            raise failure

    def _send_to(self, leader: Broker, partitions: list[int]) -> None:
        request = produce_pb2.ProduceRequest()  # acks: a majority has it on disk
        for partition in partitions:
            item = request.items.add(record_batch=self.waiting[partition])
            item.partition.topic, item.partition.partition = self.topic, partition
        failure = None
        for partition, outcome in zip(partitions, call(leader.produce.Produce, request).outcomes):
            if outcome.HasField("ack") or outcome.error.reason == "DUPLICATE_SEQUENCE_NUMBER":
                del self.waiting[partition]
                continue
            error = ApiError.of_item(outcome.error)
            self.cluster.heard(self.topic, partition, error)
            if failure is None or failure.retriable:
                failure = error
        if failure:
            raise failure


def partition_of(key: bytes | None, partitions: int) -> int:
    """Where Kafka's clients and ours put a key; records without one go anywhere."""
    if key is None:
        return time.monotonic_ns() % partitions
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    factor, mask = 0x5BD1E995, 0xFFFFFFFF
    rest = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * factor & mask
        rest = rest * factor & mask ^ (word ^ word >> 24) * factor & mask
    if data[whole:]:
        rest = (rest ^ int.from_bytes(data[whole:], "little")) * factor & mask
    rest = (rest ^ rest >> 13) * factor & mask
    return rest ^ rest >> 15


def read_chunks(lines):
    chunk, size = [], 0
    for line in lines:
        key, tab, value = line.rstrip(b"\n").partition(b"\t")
        record = Record(key, value) if tab else Record(None, key)
        record.timestamp_ms = time.time_ns() // 1_000_000
        chunk.append(record)
        size += len(line)
        if len(chunk) >= CHUNK_RECORDS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topic")
    parser.add_argument("--brokers", default="127.0.0.1:7410", help="HOST:PORT, or several with commas between")
    arguments = parser.parse_args()
    producer = IdempotentProducer(Cluster(arguments.brokers.split(",")), arguments.topic)
    produced = 0
    for chunk in read_chunks(sys.stdin.buffer):
        producer.send(chunk)
        produced += len(chunk)
    print(f"{produced} records produced")


if __name__ == "__main__":
    try:
        main()
    except ApiError as error:
        sys.exit(str(error))
