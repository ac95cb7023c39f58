package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/highwater-mq/highwater/examples/go/highwaterv1"
)

// Epochs that say something.
const (
	joining = 0
	leaving = -1
)

// How long the coordinator may wait for news with its answer to a member that has nothing to read.
const idleMs = 1000

// member of a group, by the protocol that groups.proto describes.
//
// Everything happens in one goroutine: heartbeats come between two fetches. Where handling what was fetched takes longer
// than the session (30 s), send them from a goroutine of their own.
type member struct {
	cluster       *cluster
	group         string
	reader        *topicReader
	topicID       []byte
	id            string
	epoch         int64
	nextHeartbeat time.Time
	uncommitted   map[uint32]uint64 // offset behind what was handled, by partition
}

func readInGroup(ctx context.Context, c *cluster, topic, group string) error {
	reader, err := newTopicReader(ctx, c, topic)
	if err != nil {
		return err
	}
	m := &member{cluster: c, group: group, reader: reader, id: newUUID(), uncommitted: map[uint32]uint64{}}
	for ctx.Err() == nil {
		if err := m.runOnce(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return m.leave(context.Background())
}

func (m *member) runOnce(ctx context.Context) error {
	err := m.work(ctx)
	switch asAPIError(err).reason {
	case "FENCED_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID", "GROUP_ID_NOT_FOUND":
		// It is no member any more, and its partitions may be others' by now.
		say("not a member any more: joining again")
		clear(m.reader.positions)
		clear(m.uncommitted)
		m.epoch, m.nextHeartbeat = joining, time.Time{}
		return nil
	case "STALE_MEMBER_EPOCH":
		// The group has a newer epoch for this member.
		m.nextHeartbeat = time.Time{}
		return nil
	}
	return err
}

func (m *member) work(ctx context.Context) error {
	if !time.Now().Before(m.nextHeartbeat) {
		if err := m.heartbeat(ctx); err != nil {
			return err
		}
	}
	records, err := m.reader.fetch(ctx)
	if err != nil {
		return err
	}
	if err := printRecords(records); err != nil {
		return err
	}
	for _, at := range records {
		m.uncommitted[at.partition] = at.record.offset + 1
	}
	// Committed when handled: whatever happens, no record is skipped, and the last ones may come twice. The commit is
	// finished also where the program is asked to stop meanwhile.
	return m.commit(context.WithoutCancel(ctx))
}

func (m *member) request(epoch int64) *highwaterv1.HeartbeatRequest {
	request := &highwaterv1.HeartbeatRequest{
		GroupId: m.group, MemberId: m.id, MemberEpoch: epoch, ClientId: "go-example",
	}
	if len(m.reader.positions) > 0 {
		owned := slices.Sorted(maps.Keys(m.reader.positions))
		request.Owned = []*highwaterv1.TopicPartitions{{TopicId: m.topicID, Partitions: owned}}
	}
	return request
}

func (m *member) heartbeat(ctx context.Context) error {
	request := m.request(m.epoch)
	if m.epoch == joining {
		request.Subscription = &highwaterv1.Subscription{Topics: []string{m.reader.topic}}
	} else if len(m.reader.positions) == 0 {
		request.MaxWaitMs = idleMs
	}
	answer, err := askCoordinator(ctx, m.cluster, m.group, highwaterv1.GroupsServiceClient.Heartbeat, request)
	if err != nil {
		return err
	}
	m.epoch = answer.GetMemberEpoch()
	m.nextHeartbeat = time.Now().Add(time.Duration(answer.GetHeartbeatIntervalMs()) * time.Millisecond)
	if answer.Assignment != nil { // nil: nothing is new
		if err := m.follow(ctx, answer.GetAssignment()); err != nil {
			return err
		}
	}
	if len(m.reader.positions) == 0 {
		m.nextHeartbeat = time.Time{} // more members than partitions, or others have not let go yet: wait there for news
	}
	return nil
}

func (m *member) follow(ctx context.Context, assignment *highwaterv1.Assignment) error {
	assigned := map[uint32]bool{}
	for _, share := range assignment.GetPartitions() {
		m.topicID = share.GetTopicId()
		for _, partition := range share.GetPartitions() {
			assigned[partition] = true
		}
	}
	revoked := false
	for partition := range m.reader.positions {
		if !assigned[partition] { // everything read is committed already
			delete(m.reader.positions, partition)
			revoked = true
		}
	}
	var taken []uint32
	for partition := range assigned {
		if _, owned := m.reader.positions[partition]; !owned {
			taken = append(taken, partition)
		}
	}
	if err := m.begin(ctx, taken); err != nil {
		return err
	}
	if revoked || len(taken) > 0 {
		say(fmt.Sprint("owns ", slices.Sorted(maps.Keys(m.reader.positions))))
	}
	if revoked {
		m.nextHeartbeat = time.Time{} // others wait to hear that these are free
	}
	return nil
}

// begin reads partitions from where the group left off; from the first record where it never was.
func (m *member) begin(ctx context.Context, partitions []uint32) error {
	if len(partitions) == 0 {
		return nil
	}
	request := &highwaterv1.FetchOffsetsRequest{GroupId: m.group, MemberId: m.id, MemberEpoch: m.epoch}
	for _, partition := range partitions {
		request.Partitions = append(request.Partitions, m.place(partition))
	}
	answer, err := askCoordinator(ctx, m.cluster, m.group, highwaterv1.GroupsServiceClient.FetchOffsets, request)
	if err != nil {
		return err
	}
	positions := map[uint32]uint64{}
	for _, found := range answer.GetOffsets() {
		partition := found.GetPartition().GetPartition()
		if found.GetError() != nil {
			return ofItem(found.GetError())
		}
		if found.Offset != nil {
			positions[partition] = found.GetOffset()
		} else if positions[partition], err = m.reader.listOffset(ctx, partition, earliest()); err != nil {
			return err
		}
	}
	maps.Copy(m.reader.positions, positions)
	return nil
}

func (m *member) commit(ctx context.Context) error {
	if len(m.uncommitted) == 0 {
		return nil
	}
	request := &highwaterv1.CommitOffsetsRequest{GroupId: m.group, MemberId: m.id, MemberEpoch: m.epoch}
	for partition, offset := range m.uncommitted {
		request.Offsets = append(request.Offsets, &highwaterv1.OffsetToCommit{Partition: m.place(partition), Offset: offset})
	}
	answer, err := askCoordinator(ctx, m.cluster, m.group, highwaterv1.GroupsServiceClient.CommitOffsets, request)
	if err != nil {
		return err
	}
	for _, result := range answer.GetResults() {
		if result.GetError() != nil {
			return ofItem(result.GetError())
		}
	}
	clear(m.uncommitted)
	return nil
}

func (m *member) place(partition uint32) *highwaterv1.TopicPartition {
	return &highwaterv1.TopicPartition{TopicId: m.topicID, Partition: partition}
}

func (m *member) leave(ctx context.Context) error {
	if m.epoch == joining {
		return nil
	}
	clear(m.reader.positions)
	_, err := askCoordinator(ctx, m.cluster, m.group, highwaterv1.GroupsServiceClient.Heartbeat, m.request(leaving))
	if err == nil {
		say("left")
	}
	return err
}

func say(text string) { fmt.Fprintln(os.Stderr, text) }

func newUUID() string {
	var id [16]byte
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0F|0x40, id[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
