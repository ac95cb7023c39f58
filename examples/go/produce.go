package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/highwater-mq/highwater/examples/go/highwaterv1"
)

// Lines, and bytes of them, that are sent at once: a batch must stay below the topic's max.message.bytes (1 MiB).
const (
	chunkRecords = 1000
	chunkBytes   = 500_000
)

// producer sends batches that carry its id and count their records, so that brokers know one that comes again.
//
// A batch is sent again, byte for byte the same, until it is acknowledged: also where nobody knows whether the last attempt
// stored it. The next batch of a partition follows only then, so the order stays.
type producer struct {
	cluster   *cluster
	topic     string
	identity  identity
	sequences []int32           // of the next record, by partition
	waiting   map[uint32][]byte // batches that are not acknowledged, by partition
}

func newProducer(ctx context.Context, c *cluster, topic string) (*producer, error) {
	partitions, err := c.refresh(ctx, topic)
	if err != nil {
		return nil, err
	}
	p := &producer{cluster: c, topic: topic, sequences: make([]int32, partitions), waiting: map[uint32][]byte{}}
	err = persistently(ctx, func() error {
		some, err := c.at(c.someAddress())
		if err != nil {
			return err
		}
		answer, err := call(ctx, some.produce.InitProducerId, &highwaterv1.InitProducerIdRequest{})
		if err == nil {
			p.identity = identity{answer.GetProducerId(), int16(answer.GetProducerEpoch())}
		}
		return err
	})
	return p, err
}

func (p *producer) send(ctx context.Context, records []record) error {
	shares := map[uint32][]record{}
	for _, record := range records {
		partition := partitionOf(record.key, uint32(len(p.sequences)))
		shares[partition] = append(shares[partition], record)
	}
	for partition, share := range shares {
		p.waiting[partition] = encode(share, p.identity, p.sequences[partition])
		p.sequences[partition] += int32(len(share))
	}
	return persistently(ctx, func() error { return p.sendWaiting(ctx) })
}

// sendWaiting sends what is not acknowledged, one request for each leader.
func (p *producer) sendWaiting(ctx context.Context) error {
	var failure error
	for leader, partitions := range p.cluster.byLeader(p.topic, slices.Sorted(maps.Keys(p.waiting))) {
		if err := p.sendTo(ctx, leader, partitions); err != nil {
			if !asAPIError(err).retriable {
				return err
			}
			failure = err
		}
	}
	for partition := range p.waiting {
		if failure == nil {
			failure = noLeader(partition)
		}
	}
	if failure != nil {
		if _, err := p.cluster.refresh(ctx, p.topic); err != nil {
			return err
		}
	}
	return failure
}

func (p *producer) sendTo(ctx context.Context, leader *broker, partitions []uint32) error {
	request := &highwaterv1.ProduceRequest{} // acks: a majority has it on disk
	for _, partition := range partitions {
		request.Items = append(request.Items, &highwaterv1.ProduceItem{
			Partition: &highwaterv1.TopicPartition{Topic: p.topic, Partition: partition},
			Payload:   &highwaterv1.ProduceItem_RecordBatch{RecordBatch: p.waiting[partition]},
		})
	}
	answer, err := call(ctx, leader.produce.Produce, request)
	if err != nil {
		return err
	}
	var failure error
	for place, outcome := range answer.GetOutcomes() {
		partition := partitions[place]
		refusal := outcome.GetError()
		if refusal == nil || refusal.GetReason() == "DUPLICATE_SEQUENCE_NUMBER" {
			delete(p.waiting, partition)
		} else if failure == nil || asAPIError(failure).retriable {
			failure = ofItem(refusal)
		}
	}
	return failure
}

// partitionOf puts a key where Kafka's clients and ours do; records without one go anywhere.
func partitionOf(key []byte, partitions uint32) uint32 {
	if key == nil {
		return rand.Uint32N(partitions)
	}
	return (murmur2(key) & 0x7FFFFFFF) % partitions
}

func murmur2(data []byte) uint32 {
	const factor = 0x5BD1E995
	hash := 0x9747B28C ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		word := binary.LittleEndian.Uint32(data) * factor
		hash = hash*factor ^ (word^word>>24)*factor
	}
	for place, octet := range data {
		hash ^= uint32(octet) << (8 * place)
	}
	if len(data) > 0 {
		hash *= factor
	}
	hash = (hash ^ hash>>13) * factor
	return hash ^ hash>>15
}

func produce(ctx context.Context, c *cluster, topic string, lines io.Reader) error {
	p, err := newProducer(ctx, c, topic)
	if err != nil {
		return err
	}
	produced, size := 0, 0
	var chunk []record
	flush := func() error {
		if len(chunk) == 0 {
			return nil
		}
		if err := p.send(ctx, chunk); err != nil {
			return err
		}
		produced += len(chunk)
		chunk, size = nil, 0
		return nil
	}
	scanner := bufio.NewScanner(lines)
	scanner.Buffer(nil, chunkBytes)
	for scanner.Scan() {
		line := bytes.Clone(scanner.Bytes())
		next := record{value: line, timestampMs: time.Now().UnixMilli()}
		if key, value, found := bytes.Cut(line, []byte("\t")); found {
			next.key, next.value = key, value
		}
		chunk, size = append(chunk, next), size+len(line)
		if len(chunk) >= chunkRecords || size >= chunkBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := scanner.Err(); err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	fmt.Println(produced, "records produced")
	return nil
}
