package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Record batches: what is produced, stored and fetched, byte for byte. The format is Kafka's record batch v2, drawn in
// docs/protocol.md. Numbers are big-endian; the lengths inside of records are zigzag varints, as encoding/binary has them.
// Compression is left out: a batch that is compressed is refused with what to do instead.

const (
	magic         = 2
	noLeaderEpoch = -1
	compression   = 0b111
	// Offset, length, leader epoch, magic and CRC stand before what the CRC covers.
	crcAt     = 17
	coveredAt = 21
	headBytes = 61
	// The length counts what follows it.
	lengthEnds = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type record struct {
	key, value  []byte // nil: null
	timestampMs int64
	offset      uint64 // set when it was fetched
}

// identity says who sends: batches that carry it and number themselves are stored once, however often they are sent.
type identity struct {
	id    int64
	epoch int16
}

// encode makes a batch of at least one record. sequence is the number of its first record, counted by partition from 0.
func encode(records []record, by identity, sequence int32) []byte {
	first, greatest := records[0].timestampMs, records[0].timestampMs
	for _, record := range records {
		greatest = max(greatest, record.timestampMs)
	}
	order := binary.BigEndian
	batch := make([]byte, 0, 1024)
	batch = order.AppendUint64(batch, 0) // base offset: the broker's business
	batch = order.AppendUint32(batch, 0) // length: see below
	batch = order.AppendUint32(batch, noLeaderEpoch&0xFFFFFFFF)
	batch = append(batch, magic)
	batch = order.AppendUint32(batch, 0) // CRC: see below
	batch = order.AppendUint16(batch, 0) // attributes: not compressed
	batch = order.AppendUint32(batch, uint32(len(records)-1))
	batch = order.AppendUint64(batch, uint64(first))
	batch = order.AppendUint64(batch, uint64(greatest))
	batch = order.AppendUint64(batch, uint64(by.id))
	batch = order.AppendUint16(batch, uint16(by.epoch))
	batch = order.AppendUint32(batch, uint32(sequence))
	batch = order.AppendUint32(batch, uint32(len(records)))
	for place, record := range records {
		fields := []byte{0} // attributes: none
		fields = binary.AppendVarint(fields, record.timestampMs-first)
		fields = binary.AppendVarint(fields, int64(place))
		fields = appendNullable(fields, record.key)
		fields = appendNullable(fields, record.value)
		fields = binary.AppendVarint(fields, 0) // headers: none
		batch = binary.AppendVarint(batch, int64(len(fields)))
		batch = append(batch, fields...)
	}
	order.PutUint32(batch[lengthEnds-4:], uint32(len(batch)-lengthEnds))
	order.PutUint32(batch[crcAt:], crc32.Checksum(batch[coveredAt:], castagnoli))
	return batch
}

func appendNullable(to, data []byte) []byte {
	if data == nil {
		return binary.AppendVarint(to, -1)
	}
	return append(binary.AppendVarint(to, int64(len(data))), data...)
}

// decode returns the records of a batch, with their offsets.
func decode(batch []byte) ([]record, error) {
	order := binary.BigEndian
	if len(batch) < headBytes || batch[16] != magic || uint64(order.Uint32(batch[8:]))+lengthEnds != uint64(len(batch)) {
		return nil, fmt.Errorf("%d bytes that are no record batch v2", len(batch))
	}
	if order.Uint32(batch[crcAt:]) != crc32.Checksum(batch[coveredAt:], castagnoli) {
		return nil, errors.New("the batch is damaged: its checksum does not fit its bytes")
	}
	if order.Uint16(batch[coveredAt:])&compression != 0 {
		return nil, errors.New("the batch is compressed: fetch with RECORD_FORMAT_RECORDS, and the broker decompresses it")
	}
	base, first := order.Uint64(batch), int64(order.Uint64(batch[27:]))
	in := reader{rest: batch[headBytes:]}
	var records []record
	for range order.Uint32(batch[57:]) {
		fields := reader{rest: in.nullable()}
		fields.take(1) // attributes: none
		timestamp, offset := first+fields.varint(), base+uint64(fields.varint())
		key, value := fields.nullable(), fields.nullable() // headers are skipped
		if in.broken || fields.broken {
			return nil, errors.New("the batch ends in the middle of a record")
		}
		records = append(records, record{key, value, timestamp, offset})
	}
	return records, nil
}

// reader takes fields from the front of bytes, and notes when there are too few.
type reader struct {
	rest   []byte
	broken bool
}

func (r *reader) take(count int64) []byte {
	if count < 0 || count > int64(len(r.rest)) {
		r.broken = true
		return nil
	}
	taken := r.rest[:count:count]
	r.rest = r.rest[count:]
	return taken
}

func (r *reader) varint() int64 {
	number, bytes := binary.Varint(r.rest)
	if bytes <= 0 {
		r.broken = true
		return 0
	}
	r.rest = r.rest[bytes:]
	return number
}

func (r *reader) nullable() []byte {
	length := r.varint()
	if length < 0 || r.broken {
		return nil
	}
	return r.take(length)
}
