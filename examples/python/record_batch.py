"""Record batches: what is produced, stored and fetched, byte for byte.

The format is Kafka's record batch v2, drawn in docs/protocol.md. Numbers are big-endian; the lengths inside of records are
zigzag varints. Compression is left out: a batch that is compressed is refused with what to do instead.
"""

import struct
from dataclasses import dataclass

# base offset, bytes that follow, leader epoch, magic, CRC-32C of all that follows it ...
PREFIX = struct.Struct(">qiibI")
# ... attributes, last offset delta, first and greatest timestamp, producer id, epoch and sequence, number of records.
HEADER = struct.Struct(">hiqqqhii")
MAGIC = 2
NO_LEADER_EPOCH = -1
COMPRESSION = 0b111


@dataclass
class Record:
    key: bytes | None
    value: bytes | None
    timestamp_ms: int = 0
    offset: int = 0  # set when it was fetched


@dataclass
class Producer:
    """Who sends: batches that carry this and number themselves are stored once, however often they are sent."""

    id: int = -1
    epoch: int = -1


def encode(records: list[Record], producer: Producer = Producer(), sequence: int = -1) -> bytes:
    """A batch of at least one record. `sequence` is the number of its first record, counted by partition from 0."""
    first = records[0].timestamp_ms
    greatest = max(record.timestamp_ms for record in records)
    body = HEADER.pack(0, len(records) - 1, first, greatest, producer.id, producer.epoch, sequence, len(records))
    body += b"".join(_encode_record(place, record, first) for place, record in enumerate(records))
    # What counts the bytes that follow itself begins behind itself: 9 of the prefix, then the body.
    return PREFIX.pack(0, 9 + len(body), NO_LEADER_EPOCH, MAGIC, crc32c(body)) + body


def decode(batch: bytes) -> list[Record]:
    """The records of a batch, with their offsets."""
    if len(batch) < PREFIX.size + HEADER.size:
        raise ValueError(f"{len(batch)} bytes are no record batch")
    base_offset, length, _, magic, checksum = PREFIX.unpack_from(batch)
    body = memoryview(batch)[PREFIX.size :]
    if magic != MAGIC or length != 9 + len(body):
        raise ValueError(f"no record batch v2: magic {magic}, {len(batch)} bytes instead of {length + 12}")
    if checksum != crc32c(body):
        raise ValueError("the batch is damaged: its checksum does not fit its bytes")
    attributes, _, first, _, _, _, _, count = HEADER.unpack_from(body)
    if attributes & COMPRESSION:
        raise ValueError("the batch is compressed: fetch with RECORD_FORMAT_RECORDS, and the broker decompresses it")
    reader = _Reader(body, HEADER.size)
    return [_decode_record(reader, base_offset, first) for _ in range(count)]


def _encode_record(place: int, record: Record, first_timestamp: int) -> bytes:
    fields = b"\0"  # attributes: none
    fields += _varint(record.timestamp_ms - first_timestamp) + _varint(place)
    fields += _nullable(record.key) + _nullable(record.value)
    fields += _varint(0)  # headers: none
    return _varint(len(fields)) + fields


def _decode_record(reader: "_Reader", base_offset: int, first_timestamp: int) -> Record:
    end = reader.varint() + reader.at
    reader.take(1)  # attributes: none
    timestamp = first_timestamp + reader.varint()
    offset = base_offset + reader.varint()
    record = Record(reader.nullable(), reader.nullable(), timestamp, offset)
    reader.at = end  # headers: skipped
    return record


def _nullable(data: bytes | None) -> bytes:
    return _varint(-1) if data is None else _varint(len(data)) + data


def _varint(number: int) -> bytes:
    rest = number << 1 if number >= 0 else (-number << 1) - 1  # zigzag: small negative numbers stay short
    out = bytearray()
    while rest > 0x7F:
        out.append(0x80 | rest & 0x7F)
        rest >>= 7
    out.append(rest)
    return bytes(out)


class _Reader:
    def __init__(self, data: memoryview, at: int):
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError("the batch ends in the middle of a record")
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number >> 1 if number & 1 == 0 else -(number + 1 >> 1)
            shift += 7

    def nullable(self) -> bytes | None:
        length = self.varint()
        return None if length < 0 else self.take(length)


def _crc32c_table() -> list[int]:
    table = []
    for rest in range(256):
        for _ in range(8):
            rest = rest >> 1 ^ (0x82F63B78 if rest & 1 else 0)
        table.append(rest)
    return table


_CRC32C = _crc32c_table()


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32 with Castagnoli's polynomial. The packages `crc32c` and `google-crc32c` do it many times faster."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest = _CRC32C[(rest ^ byte) & 0xFF] ^ rest >> 8
    return rest ^ 0xFFFFFFFF
