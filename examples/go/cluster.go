package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/highwater-mq/highwater/examples/go/highwaterv1"
)

// broker has the services of one broker.
type broker struct {
	cluster highwaterv1.ClusterServiceClient
	produce highwaterv1.ProduceServiceClient
	fetch   highwaterv1.FetchServiceClient
	offsets highwaterv1.OffsetsServiceClient
	groups  highwaterv1.GroupsServiceClient
}

// cluster is what a client sees of it: connections, and who leads what.
type cluster struct {
	seeds        []string
	connections  map[string]*broker           // by address
	addresses    map[uint32]string            // by broker id
	leaders      map[string]map[uint32]uint32 // broker id by topic and partition
	coordinators map[string]string            // address by group
}

func newCluster(seeds []string) *cluster {
	return &cluster{
		seeds:        seeds,
		connections:  map[string]*broker{},
		addresses:    map[uint32]string{},
		leaders:      map[string]map[uint32]uint32{},
		coordinators: map[string]string{},
	}
}

// at returns the broker at an address. Connecting waits for the first call.
func (c *cluster) at(address string) (*broker, error) {
	if known, ok := c.connections[address]; ok {
		return known, nil
	}
	// A broker that is back is to be found soon: gRPC would wait up to two minutes.
	retry := backoff.DefaultConfig
	retry.MaxDelay = time.Second
	connection, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry}))
	if err != nil {
		return nil, err
	}
	c.connections[address] = &broker{
		cluster: highwaterv1.NewClusterServiceClient(connection),
		produce: highwaterv1.NewProduceServiceClient(connection),
		fetch:   highwaterv1.NewFetchServiceClient(connection),
		offsets: highwaterv1.NewOffsetsServiceClient(connection),
		groups:  highwaterv1.NewGroupsServiceClient(connection),
	}
	return c.connections[address], nil
}

// someAddress: any broker answers for all; another one each time, for one of them may be down.
func (c *cluster) someAddress() string {
	known := slices.Collect(maps.Values(c.addresses))
	if len(known) == 0 {
		known = c.seeds
	}
	return known[rand.IntN(len(known))]
}

// refresh learns which brokers there are and who leads the partitions of a topic. It returns how many partitions it has.
func (c *cluster) refresh(ctx context.Context, topic string) (int, error) {
	partitions := 0
	err := persistently(ctx, func() error {
		some, err := c.at(c.someAddress())
		if err != nil {
			return err
		}
		answer, err := call(ctx, some.cluster.GetMetadata, &highwaterv1.GetMetadataRequest{Topics: []string{topic}})
		if err != nil {
			return err
		}
		metadata := answer.GetMetadata()
		for _, broker := range metadata.GetBrokers() {
			c.addresses[broker.GetBrokerId()] = fmt.Sprintf("%s:%d", broker.GetHost(), broker.GetPort())
		}
		if len(metadata.GetTopics()) == 0 {
			message := fmt.Sprintf("no topic is named %q: create it first", topic)
			return &apiError{reason: "UNKNOWN_TOPIC_OR_PARTITION", message: message}
		}
		leaders := map[uint32]uint32{}
		for _, partition := range metadata.GetTopics()[0].GetPartitions() {
			if partition.LeaderBrokerId != nil {
				leaders[partition.GetPartition()] = partition.GetLeaderBrokerId()
			}
		}
		c.leaders[topic] = leaders
		partitions = len(metadata.GetTopics()[0].GetPartitions())
		return nil
	})
	return partitions, err
}

// leader returns the broker that leads a partition; nil while none is known to.
func (c *cluster) leader(topic string, partition uint32) *broker {
	id, led := c.leaders[topic][partition]
	address, known := c.addresses[id]
	if !led || !known {
		return nil
	}
	found, err := c.at(address)
	if err != nil {
		return nil
	}
	return found
}

// heard: a broker that does not lead a partition says who does.
func (c *cluster) heard(topic string, partition uint32, err error) {
	if id, wrong := strconv.ParseUint(asAPIError(err).metadata["leader_broker_id"], 10, 32); wrong == nil {
		c.leaders[topic][partition] = uint32(id)
	}
}

// byLeader shares partitions out by the broker to ask. Those without a leader at the moment are left out.
func (c *cluster) byLeader(topic string, partitions []uint32) map[*broker][]uint32 {
	shared := map[*broker][]uint32{}
	for _, partition := range partitions {
		if leader := c.leader(topic, partition); leader != nil {
			shared[leader] = append(shared[leader], partition)
		}
	}
	return shared
}

// call makes one call with a time limit, and reads its error.
func call[Q, A any](ctx context.Context, method func(context.Context, *Q, ...grpc.CallOption) (*A, error), request *Q) (*A, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := method(ctx, request)
	if err != nil {
		return nil, ofCall(err)
	}
	return answer, nil
}

// askCoordinator asks the broker that coordinates a group. Others refuse and say who does.
func askCoordinator[Q, A any](
	ctx context.Context, c *cluster, group string,
	method func(highwaterv1.GroupsServiceClient, context.Context, *Q, ...grpc.CallOption) (*A, error), request *Q,
) (answer *A, err error) {
	err = persistently(ctx, func() error {
		address, known := c.coordinators[group]
		if !known {
			address = c.someAddress()
		}
		delete(c.coordinators, group)
		to, err := c.at(address)
		if err != nil {
			return err
		}
		bound := func(ctx context.Context, request *Q, options ...grpc.CallOption) (*A, error) {
			return method(to.groups, ctx, request, options...)
		}
		if answer, err = call(ctx, bound, request); err == nil {
			c.coordinators[group] = address
			return nil
		}
		if hint, wrong := strconv.ParseUint(asAPIError(err).metadata["coordinator_broker_id"], 10, 32); wrong == nil {
			if address, known := c.addresses[uint32(hint)]; known {
				c.coordinators[group] = address
			}
		}
		return err
	})
	return answer, err
}
