"""Reads a topic together with the other members of a consumer group, and goes on where the group left off.

Prints records as consume.py does, and to standard error what it owns. Ctrl-C leaves the group.
"""

import argparse
import signal
import sys
import time
import uuid

from cluster import ApiError, Cluster
from consume import Reader, print_record
from highwater.v1 import groups_pb2

JOIN, LEAVE = 0, -1
# How long the coordinator may wait for news with its answer to a member that has nothing to read, in milliseconds.
IDLE_MS = 1000
# What these say: this member is none any more, and its partitions may be others' by now.
FENCED = ("FENCED_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID", "GROUP_ID_NOT_FOUND")


class Member:
    """A member of a group, by the protocol that groups.proto describes.

    Everything happens in one thread: heartbeats come between two fetches. Where handling what was fetched takes longer than
    the session (30 s), send them from a thread of their own.
    """

    def __init__(self, cluster: Cluster, group: str, topic: str):
        self.cluster, self.group = cluster, group
        self.reader = Reader(cluster, topic)
        self.topic_id = b""
        self.id = str(uuid.uuid4())
        self.epoch = JOIN
        self.next_heartbeat = 0.0
        self.uncommitted: dict[int, int] = {}  # offset behind what was handled, by partition

    def run_once(self) -> None:
        try:
            if time.monotonic() >= self.next_heartbeat:
                self.heartbeat()
            for partition, record in self.reader.fetch():
                print_record(partition, record)
                self.uncommitted[partition] = record.offset + 1
            sys.stdout.flush()
            # Committed when handled: whatever happens, no record is skipped, and the last ones may come twice.
            self.commit()
        except ApiError as error:
            if error.reason in FENCED:
                say(f"not a member any more ({error.reason}): joining again")
                self.reader.positions.clear()
                self.uncommitted.clear()
                self.epoch = JOIN
            elif error.reason != "STALE_MEMBER_EPOCH":  # that one: the group has a newer epoch for this member
                raise
            self.next_heartbeat = 0.0

    def heartbeat(self) -> None:
        request = self.request(self.epoch)
        if self.epoch == JOIN:
            request.subscription.topics.append(self.reader.topic)
        elif not self.reader.positions:
            request.max_wait_ms = IDLE_MS
        answer = self.cluster.ask_coordinator(self.group, "Heartbeat", request)
        self.epoch = answer.member_epoch
        self.next_heartbeat = time.monotonic() + answer.heartbeat_interval_ms / 1000
        if answer.HasField("assignment"):  # absent: nothing is new
            self.follow(answer.assignment)
        if not self.reader.positions:
            self.next_heartbeat = 0.0  # more members than partitions, or others have not let go yet: wait there for news

    def request(self, epoch: int) -> groups_pb2.HeartbeatRequest:
        request = groups_pb2.HeartbeatRequest(
            group_id=self.group, member_id=self.id, member_epoch=epoch, client_id="python-example"
        )
        if self.reader.positions:
            request.owned.add(topic_id=self.topic_id, partitions=sorted(self.reader.positions))
        return request

    def follow(self, assignment: groups_pb2.Assignment) -> None:
        assigned = set()
        for share in assignment.partitions:
            self.topic_id = share.topic_id
            assigned.update(share.partitions)
        revoked = self.reader.positions.keys() - assigned
        for partition in revoked:  # everything read is committed already
            del self.reader.positions[partition]
        taken = assigned - self.reader.positions.keys()
        if taken:
            self.reader.positions |= self.committed(taken)
        if revoked or taken:
            say(f"owns [{' '.join(map(str, sorted(self.reader.positions)))}]")
        if revoked:
            self.next_heartbeat = 0.0  # others wait to hear that these are free

    def committed(self, partitions: set[int]) -> dict[int, int]:
        """Where the group left off: at the first record where it never was."""
        request = groups_pb2.FetchOffsetsRequest(
            group_id=self.group, member_id=self.id, member_epoch=self.epoch
        )
        for partition in partitions:
            request.partitions.add(topic_id=self.topic_id, partition=partition)
        positions = {}
        for found in self.cluster.ask_coordinator(self.group, "FetchOffsets", request).offsets:
            if found.HasField("error"):
                raise ApiError.of_item(found.error)
            partition = found.partition.partition
            if found.HasField("offset"):
                positions[partition] = found.offset
            else:
                positions[partition] = self.reader.list_offset(partition)
        return positions

    def commit(self) -> None:
        if not self.uncommitted:
            return
        request = groups_pb2.CommitOffsetsRequest(group_id=self.group, member_id=self.id, member_epoch=self.epoch)
        for partition, offset in self.uncommitted.items():
            item = request.offsets.add(offset=offset)
            item.partition.topic_id, item.partition.partition = self.topic_id, partition
        for result in self.cluster.ask_coordinator(self.group, "CommitOffsets", request).results:
            if result.HasField("error"):
                raise ApiError.of_item(result.error)
        self.uncommitted.clear()

    def leave(self) -> None:
        if self.epoch != JOIN:
            self.reader.positions.clear()
            self.cluster.ask_coordinator(self.group, "Heartbeat", self.request(LEAVE))
            say("left")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topic")
    parser.add_argument("group")
    parser.add_argument("--brokers", default="127.0.0.1:7410", help="HOST:PORT, or several with commas between")
    arguments = parser.parse_args()
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    member = Member(Cluster(arguments.brokers.split(",")), arguments.group, arguments.topic)
    while not stopped:
        member.run_once()
    member.leave()


if __name__ == "__main__":
    try:
        main()
    except ApiError as error:
        sys.exit(str(error))
