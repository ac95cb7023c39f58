package main

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"
)

func TestBatchesAreKafkasByteForByte(t *testing.T) {
	records := []record{
		{key: []byte("k"), value: []byte("v"), timestampMs: 1_000},
		{value: []byte{}, timestampMs: 998},
	}
	batch := encode(records, identity{id: 7, epoch: 1}, 5)
	want := "0000000000000000" + "00000041" + "ffffffff" + "02" + "0dadb13b" + // offset, length, epoch, magic, CRC
		"0000" + "00000001" + "00000000000003e8" + "00000000000003e8" + // attributes, last delta, timestamps
		"0000000000000007" + "0001" + "00000005" + "00000002" + // producer, sequence, count
		"10" + "00" + "00" + "00" + "026b" + "0276" + "00" + // the first record
		"0c" + "00" + "03" + "02" + "01" + "00" + "00" // the second: key null, value empty
	if found := hex.EncodeToString(batch); found != want {
		t.Fatalf("\n%s\n%s", found, want)
	}
	found, err := decode(batch)
	records[1].offset = 1
	if err != nil || !reflect.DeepEqual(found, records) {
		t.Fatal(found, err)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	batch := encode([]record{{value: []byte("value")}}, identity{id: -1, epoch: -1}, -1)
	for place := range batch[8:] {
		damaged := bytes.Clone(batch)
		damaged[8+place] ^= 1
		if found, err := decode(damaged); err == nil && 8+place >= 16 {
			t.Fatalf("byte %d: %v", 8+place, found)
		}
	}
	for end := range batch {
		if _, err := decode(batch[:end]); err == nil {
			t.Fatalf("%d bytes are no batch", end)
		}
	}
}

func TestKeysLandWhereKafkaPutsThem(t *testing.T) {
	// Values of Kafka's own test of murmur2.
	for key, want := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536} {
		if found := int32(murmur2([]byte(key))); found != want {
			t.Errorf("%s: %d", key, found)
		}
	}
}
