"""The cluster as a client sees it: connections, who leads what, and errors that say whether trying again helps."""

import random
import time

import grpc
from google.rpc import error_details_pb2, status_pb2

from highwater.v1 import cluster_pb2, common_pb2
from highwater.v1.cluster_pb2_grpc import ClusterServiceStub
from highwater.v1.fetch_pb2_grpc import FetchServiceStub
from highwater.v1.groups_pb2_grpc import GroupsServiceStub
from highwater.v1.offsets_pb2_grpc import OffsetsServiceStub
from highwater.v1.produce_pb2_grpc import ProduceServiceStub

# How long to go on trying where that helps, and the longest wait for one answer, both in seconds.
PATIENCE = 30
CALL_TIMEOUT = 10
ERROR_DOMAIN = "highwater.v1"


class ApiError(Exception):
    """A request, or one item of it, that failed."""

    def __init__(self, reason: str, message: str, retriable: bool, metadata: dict[str, str]):
        super().__init__(f"{reason}: {message}")
        self.reason = reason  # a stable name: docs/protocol.md lists all
        self.retriable = retriable
        self.metadata = metadata

    @classmethod
    def of_item(cls, error: common_pb2.Error) -> "ApiError":
        return cls(error.reason, error.message, error.retriable, dict(error.metadata))

    @classmethod
    def of_call(cls, error: grpc.RpcError) -> "ApiError":
        """What a status says. Its details hold a google.rpc.ErrorInfo, unless it did not come from a broker."""
        retriable = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in status_pb2.Status.FromString(value).details:
                    info = error_details_pb2.ErrorInfo()
                    if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                        return cls(info.reason, error.details(), retriable, dict(info.metadata))
        return cls(error.code().name, error.details(), retriable, {})


class Broker:
    """The services of one broker. Connecting waits for the first call."""

    def __init__(self, address: str):
        # A broker that is back is to be found soon: gRPC would wait up to two minutes.
        channel = grpc.insecure_channel(address, options=[("grpc.max_reconnect_backoff_ms", 1000)])
        self.cluster = ClusterServiceStub(channel)
        self.produce = ProduceServiceStub(channel)
        self.fetch = FetchServiceStub(channel)
        self.offsets = OffsetsServiceStub(channel)
        self.groups = GroupsServiceStub(channel)


class Cluster:
    def __init__(self, addresses: list[str]):
        self.seeds = addresses
        self.connections: dict[str, Broker] = {}
        self.brokers: dict[int, str] = {}  # address by broker id
        self.leaders: dict[tuple[str, int], int] = {}  # broker id by partition
        self.coordinators: dict[str, str] = {}  # address by group

    def at(self, address: str) -> Broker:
        if address not in self.connections:
            self.connections[address] = Broker(address)
        return self.connections[address]

    def some_address(self) -> str:
        """Any broker answers for all; another one each time, for one of them may be down."""
        return random.choice(list(self.brokers.values()) or self.seeds)

    def refresh(self, topic: str) -> int:
        """Learns which brokers there are and who leads the partitions of a topic. How many partitions it has."""

        def ask():
            request = cluster_pb2.GetMetadataRequest(topics=[topic])
            answer = call(self.at(self.some_address()).cluster.GetMetadata, request).metadata
            self.brokers = {broker.broker_id: f"{broker.host}:{broker.port}" for broker in answer.brokers}
            for found in answer.topics:
                for partition in found.partitions:
                    place = (topic, partition.partition)
                    self.leaders.pop(place, None)
                    if partition.HasField("leader_broker_id"):
                        self.leaders[place] = partition.leader_broker_id
                return len(found.partitions)
            raise ApiError("UNKNOWN_TOPIC_OR_PARTITION", f"no topic is named {topic!r}: create it first", False, {})

        return persistently(ask)

    def leader(self, topic: str, partition: int) -> Broker | None:
        address = self.brokers.get(self.leaders.get((topic, partition), -1))
        return self.at(address) if address else None

    def heard(self, topic: str, partition: int, error: ApiError) -> None:
        """A broker that does not lead a partition says who does."""
        if "leader_broker_id" in error.metadata:
            self.leaders[topic, partition] = int(error.metadata["leader_broker_id"])

    def ask_leader(self, topic: str, partition: int, ask):
        """Asks the leader of a partition something whose answer may hold an error."""

        def attempt():
            try:
                leader = self.leader(topic, partition)
                if leader is None:
                    raise ApiError("LEADER_NOT_AVAILABLE", f"partition {partition} has no leader", True, {})
                answer = ask(leader)
                if answer.HasField("error"):
                    raise ApiError.of_item(answer.error)
                return answer
            except ApiError as error:
                if error.retriable:
                    self.refresh(topic)
                    self.heard(topic, partition, error)
                raise

        return persistently(attempt)

    def by_leader(self, topic: str, partitions) -> dict[Broker, list[int]]:
        """Partitions by the broker to ask. Those without a leader at the moment are left out."""
        shared: dict[Broker, list[int]] = {}
        for partition in partitions:
            if leader := self.leader(topic, partition):
                shared.setdefault(leader, []).append(partition)
        return shared

    def ask_coordinator(self, group: str, method: str, request):
        """Asks the broker that coordinates a group. Others refuse and say who does."""

        def ask():
            address = self.coordinators.pop(group, None) or self.some_address()
            try:
                answer = call(getattr(self.at(address).groups, method), request)
            except ApiError as error:
                hint = int(error.metadata.get("coordinator_broker_id", -1))
                if hint in self.brokers:
                    self.coordinators[group] = self.brokers[hint]
                raise
            self.coordinators[group] = address
            return answer

        return persistently(ask)


def call(method, request, timeout: float = CALL_TIMEOUT):
    try:
        return method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise ApiError.of_call(error) from None


def persistently(attempt):
    """Tries again, after a wait, what fails in a way that passes."""
    give_up_at = time.monotonic() + PATIENCE
    wait = 0.05
    while True:
        try:
            return attempt()
        except ApiError as error:
            if not error.retriable or time.monotonic() + wait > give_up_at:
                raise
        time.sleep(wait)
        wait = min(2 * wait, 1)
