package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/highwater-mq/highwater/examples/go/highwaterv1"
)

const (
	// Bytes of one answer: less than the 4 MiB that gRPC takes by default, more than a batch may have.
	fetchBytes = 2 << 20
	waitMs     = 500
)

// located is a record and where it was.
type located struct {
	partition uint32
	record    record
}

// topicReader reads partitions of a topic, each from its offset in positions on.
type topicReader struct {
	cluster    *cluster
	topic      string
	partitions int
	positions  map[uint32]uint64
	stale      bool // whether what is known of leaders may be old
}

func newTopicReader(ctx context.Context, c *cluster, topic string) (*topicReader, error) {
	partitions, err := c.refresh(ctx, topic)
	return &topicReader{cluster: c, topic: topic, partitions: partitions, positions: map[uint32]uint64{}}, err
}

func earliest() *highwaterv1.OffsetSpec {
	return &highwaterv1.OffsetSpec{Spec: &highwaterv1.OffsetSpec_Earliest{Earliest: &highwaterv1.EarliestOffset{}}}
}

func latest() *highwaterv1.OffsetSpec {
	return &highwaterv1.OffsetSpec{Spec: &highwaterv1.OffsetSpec_Latest{Latest: &highwaterv1.LatestOffset{}}}
}

// listOffset asks for the first offset that a partition holds, or the one behind its last record.
func (r *topicReader) listOffset(ctx context.Context, partition uint32, spec *highwaterv1.OffsetSpec) (offset uint64, err error) {
	request := &highwaterv1.ListOffsetsRequest{Items: []*highwaterv1.ListOffsetsItem{{
		Partition: &highwaterv1.TopicPartition{Topic: r.topic, Partition: partition},
		Spec:      spec,
	}}}
	err = persistently(ctx, func() error {
		found, err := r.askLeader(ctx, partition, request)
		if err == nil {
			offset = found.GetOffset()
			return nil
		}
		if asAPIError(err).retriable {
			if _, failure := r.cluster.refresh(ctx, r.topic); failure != nil {
				return failure
			}
			r.cluster.heard(r.topic, partition, err)
		}
		return err
	})
	return offset, err
}

func (r *topicReader) askLeader(
	ctx context.Context, partition uint32, request *highwaterv1.ListOffsetsRequest,
) (*highwaterv1.ListedOffset, error) {
	leader := r.cluster.leader(r.topic, partition)
	if leader == nil {
		return nil, noLeader(partition)
	}
	answer, err := call(ctx, leader.offsets.ListOffsets, request)
	if err != nil {
		return nil, err
	}
	found := answer.GetOffsets()[0]
	if found.GetError() != nil {
		return nil, ofItem(found.GetError())
	}
	return found, nil
}

// fetch returns the next records. It waits for some, but not for long, and moves the positions behind them.
func (r *topicReader) fetch(ctx context.Context) ([]located, error) {
	var found []located
	led := 0
	leaders := r.cluster.byLeader(r.topic, slices.Sorted(maps.Keys(r.positions)))
	for leader, partitions := range leaders {
		led += len(partitions)
		// One broker after the other, so each may take a share of the wait only. A client that is in a hurry asks all at
		// once, or subscribes: see FetchService.Subscribe.
		request := &highwaterv1.FetchRequest{MinBytes: 1, MaxBytes: fetchBytes, MaxWaitMs: uint32(waitMs / len(leaders))}
		for _, partition := range partitions {
			request.Partitions = append(request.Partitions, &highwaterv1.FetchPartition{
				Partition: &highwaterv1.TopicPartition{Topic: r.topic, Partition: partition},
				Offset:    r.positions[partition],
			})
		}
		answer, err := call(ctx, leader.fetch.Fetch, request)
		if err != nil {
			if !asAPIError(err).retriable {
				return nil, err
			}
			r.stale = true
		}
		for place, fetched := range answer.GetPartitions() {
			records, err := r.take(ctx, partitions[place], fetched)
			if err != nil {
				return nil, err
			}
			found = append(found, records...)
		}
	}
	if r.stale || led < len(r.positions) { // somebody else leads now, or will in a moment
		r.stale = false
		time.Sleep(100 * time.Millisecond)
		if _, err := r.cluster.refresh(ctx, r.topic); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (r *topicReader) take(ctx context.Context, partition uint32, fetched *highwaterv1.FetchedPartition) ([]located, error) {
	if refusal := fetched.GetError(); refusal != nil {
		switch {
		case refusal.GetReason() == "OFFSET_OUT_OF_RANGE":
			// The records there were deleted, as the topic's retention says: go on with the oldest.
			offset, err := r.listOffset(ctx, partition, earliest())
			r.positions[partition] = offset
			return nil, err
		case refusal.GetRetriable():
			r.stale = true
			return nil, nil
		}
		return nil, ofItem(refusal)
	}
	var found []located
	for _, batch := range fetched.GetRecordBatches().GetBatches() {
		records, err := decode(batch)
		if err != nil {
			return nil, err
		}
		for _, record := range records {
			// The first batch may begin below the offset that was asked for.
			if record.offset >= r.positions[partition] {
				found = append(found, located{partition, record})
			}
		}
	}
	r.positions[partition] = fetched.GetNextOffset()
	return found, nil
}

func printRecords(records []located) error {
	out := bufio.NewWriter(os.Stdout)
	for _, at := range records {
		fmt.Fprintf(out, "%d\t%d\t%s\t%s\n", at.partition, at.record.offset, at.record.key, at.record.value)
	}
	return out.Flush()
}

// consume prints PARTITION, OFFSET, KEY and VALUE of what the topic holds when it starts.
func consume(ctx context.Context, c *cluster, topic string) error {
	reader, err := newTopicReader(ctx, c, topic)
	if err != nil {
		return err
	}
	ends := map[uint32]uint64{}
	for partition := range uint32(reader.partitions) {
		if reader.positions[partition], err = reader.listOffset(ctx, partition, earliest()); err != nil {
			return err
		}
		if ends[partition], err = reader.listOffset(ctx, partition, latest()); err != nil {
			return err
		}
	}
	isBehind := func() bool {
		for partition, end := range ends {
			if reader.positions[partition] < end {
				return true
			}
		}
		return false
	}
	for isBehind() {
		records, err := reader.fetch(ctx)
		if err != nil {
			return err
		}
		if err := printRecords(records); err != nil {
			return err
		}
	}
	return nil
}
