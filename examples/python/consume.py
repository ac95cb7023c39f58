"""Prints what a topic holds: one line `PARTITION OFFSET KEY VALUE` for each record, with tabs between."""

import argparse
import sys
import time

from cluster import ApiError, Broker, Cluster, call
from highwater.v1 import fetch_pb2, offsets_pb2
from record_batch import Record, decode

# Bytes of one answer: less than the 4 MiB that gRPC takes by default, more than a batch may have.
FETCH_BYTES = 2 << 20
WAIT_MS = 500


class Reader:
    """Reads partitions of a topic, each from the offset in `positions` on."""

    def __init__(self, cluster: Cluster, topic: str):
        self.cluster, self.topic = cluster, topic
        self.partitions = cluster.refresh(topic)
        self.positions: dict[int, int] = {}
        self.stale = False  # whether what is known of leaders may be old

    def list_offset(self, partition: int, latest: bool = False) -> int:
        """The first offset that a partition holds, or the one behind its last record."""
        spec = offsets_pb2.OffsetSpec(latest={}) if latest else offsets_pb2.OffsetSpec(earliest={})

        def ask(leader: Broker) -> offsets_pb2.ListedOffset:
            request = offsets_pb2.ListOffsetsRequest()
            item = request.items.add(spec=spec)
            item.partition.topic, item.partition.partition = self.topic, partition
            return call(leader.offsets.ListOffsets, request).offsets[0]

        return self.cluster.ask_leader(self.topic, partition, ask).offset

    def fetch(self) -> list[tuple[int, Record]]:
        """The next records, with their partitions. Waits for some, but not for long; moves the positions behind them."""
        found = []
        leaders = self.cluster.by_leader(self.topic, self.positions)
        self.stale = sum(map(len, leaders.values())) < len(self.positions)
        for leader, partitions in leaders.items():
            # One broker after the other, so each may take a share of the wait only. A client that is in a hurry asks all
            # at once, or subscribes: see FetchService.Subscribe.
            request = fetch_pb2.FetchRequest(min_bytes=1, max_bytes=FETCH_BYTES, max_wait_ms=WAIT_MS // len(leaders))
            for partition in partitions:
                item = request.partitions.add(offset=self.positions[partition])
                item.partition.topic, item.partition.partition = self.topic, partition
            try:
                answers = call(leader.fetch.Fetch, request).partitions
            except ApiError as error:
                if not error.retriable:
                    raise
                self.stale = True
                continue
            for partition, answer in zip(partitions, answers):
                found += self._take(partition, answer)
        if self.stale:  # somebody else leads now, or will in a moment
            time.sleep(0.1)
            self.cluster.refresh(self.topic)
        return found

    def _take(self, partition: int, answer: fetch_pb2.FetchedPartition) -> list[tuple[int, Record]]:
        if answer.HasField("error"):
            self._failed(partition, ApiError.of_item(answer.error))
            return []
        records = [record for batch in answer.record_batches.batches for record in decode(batch)]
        # The first batch may begin below the offset that was asked for.
        wanted = [(partition, record) for record in records if record.offset >= self.positions[partition]]
        self.positions[partition] = answer.next_offset
        return wanted

    def _failed(self, partition: int, error: ApiError) -> None:
        if error.reason == "OFFSET_OUT_OF_RANGE":
            # The records there were deleted, as the topic's retention says: go on with the oldest.
            self.positions[partition] = self.list_offset(partition)
        elif error.retriable:
            self.stale = True
        else:
            raise error


def print_record(partition: int, record: Record) -> None:
    fields = [str(partition).encode(), str(record.offset).encode(), record.key or b"", record.value or b""]
    sys.stdout.buffer.write(b"\t".join(fields) + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topic")
    parser.add_argument("--brokers", default="127.0.0.1:7410", help="HOST:PORT, or several with commas between")
    parser.add_argument("--follow", action="store_true", help="go on with records that come later")
    arguments = parser.parse_args()
    reader = Reader(Cluster(arguments.brokers.split(",")), arguments.topic)
    ends = {}
    for partition in range(reader.partitions):
        reader.positions[partition] = reader.list_offset(partition)
        ends[partition] = reader.list_offset(partition, latest=True)
    while arguments.follow or any(reader.positions[partition] < end for partition, end in ends.items()):
        for partition, record in reader.fetch():
            print_record(partition, record)
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except ApiError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
