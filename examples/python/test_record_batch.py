import unittest

from produce import murmur2
from record_batch import Producer, Record, crc32c, decode, encode

RECORDS = [Record(b"k", b"v", timestamp_ms=1000), Record(None, b"", timestamp_ms=998, offset=1)]
BATCH = bytes.fromhex(
    "0000000000000000 00000041 ffffffff 02 0dadb13b"  # offset, length, leader epoch, magic, CRC
    "0000 00000001 00000000000003e8 00000000000003e8"  # attributes, last delta, timestamps
    "0000000000000007 0001 00000005 00000002"  # producer, sequence, count
    "10 00 00 00 026b 0276 00"  # the first record
    "0c 00 03 02 01 00 00"  # the second: key null, value empty
)


class RecordBatchTest(unittest.TestCase):
    def test_batches_are_kafkas_byte_for_byte(self):
        self.assertEqual(encode(RECORDS, Producer(7, 1), 5).hex(), BATCH.hex())
        self.assertEqual(decode(BATCH), RECORDS)

    def test_damage_is_noticed(self):
        for place in range(16, len(BATCH)):
            damaged = BATCH[:place] + bytes([BATCH[place] ^ 1]) + BATCH[place + 1 :]
            self.assertRaises(ValueError, decode, damaged)
        for end in range(len(BATCH)):
            self.assertRaises(ValueError, decode, BATCH[:end])

    def test_checksum_and_hash_are_the_standard_ones(self):
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(murmur2(b"foobar"), -790332482 & 0xFFFFFFFF)
        self.assertEqual(murmur2(b"21"), -973932308 & 0xFFFFFFFF)


if __name__ == "__main__":
    unittest.main()
