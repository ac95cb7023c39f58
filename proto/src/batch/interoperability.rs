//! Our batches against an independent implementation of the format, in both directions.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use proptest::prelude::*;

use super::*;
use crate::{Offset, ProducerEpoch, ProducerId, Sequence};

const PLENTY: usize = 1 << 22;

/// One record in a form that both sides can be turned into.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plain {
    timestamp_ms: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<Header>,
}

fn their_codec(codec: Compression) -> theirs::Compression {
    match codec {
        Compression::None => theirs::Compression::None,
        Compression::Gzip => theirs::Compression::Gzip,
        Compression::Snappy => theirs::Compression::Snappy,
        Compression::Lz4 => theirs::Compression::Lz4,
        Compression::Zstd => theirs::Compression::Zstd,
    }
}

fn encode_ours(records: &[Plain], codec: Compression, stamp: Option<ProducerStamp>) -> Bytes {
    let mut builder = BatchBuilder::new();
    for record in records {
        builder
            .append(&NewRecord {
                timestamp_ms: record.timestamp_ms,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &record.headers,
            })
            .unwrap();
    }
    builder.finish(codec, stamp).unwrap()
}

fn decode_ours(batch: Bytes) -> Vec<Plain> {
    Records::open(batch, PLENTY)
        .unwrap()
        .map(|record| {
            let record = record.unwrap();
            Plain {
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                headers: record.headers.collect(),
            }
        })
        .collect()
}

fn to_theirs(records: &[Plain], stamp: Option<ProducerStamp>) -> Vec<theirs::Record> {
    let (id, epoch, first) = stamp.map_or((-1, -1, -1), |s| (s.id.0, s.epoch.0, s.sequence.0));
    records
        .iter()
        .zip(0_i32..)
        .map(|(record, delta)| theirs::Record {
            transactional: false,
            control: false,
            partition_leader_epoch: -1,
            producer_id: id,
            producer_epoch: epoch,
            timestamp_type: theirs::TimestampType::Creation,
            offset: i64::from(delta),
            // Their encoder wants sequences to run along even where there is no producer.
            sequence: first.wrapping_add(delta),
            timestamp: record.timestamp_ms,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record
                .headers
                .iter()
                .map(|header| {
                    let key = StrBytes::from_string(header.key.clone());
                    (key, header.value.clone())
                })
                .collect::<IndexMap<_, _>>(),
        })
        .collect()
}

fn encode_theirs(records: &[theirs::Record], codec: Compression) -> Bytes {
    let options = theirs::RecordEncodeOptions {
        version: 2,
        compression: their_codec(codec),
    };
    let mut out = BytesMut::new();
    theirs::RecordBatchEncoder::encode(&mut out, records, &options).unwrap();
    out.freeze()
}

fn decode_theirs(mut batch: Bytes) -> theirs::RecordSet {
    theirs::RecordBatchDecoder::decode(&mut batch).unwrap()
}

fn stamp() -> ProducerStamp {
    ProducerStamp {
        id: ProducerId(123_456_789),
        epoch: ProducerEpoch(7),
        sequence: Sequence(1_000),
    }
}

/// Every shape of record: null, empty, large, with headers, timestamps running backwards.
fn samples() -> Vec<Plain> {
    let plain = |timestamp_ms, key: Option<&[u8]>, value: Option<&[u8]>, headers| Plain {
        timestamp_ms,
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        headers,
    };
    let header = |key: &str, value: Option<&[u8]>| Header {
        key: key.to_owned(),
        value: value.map(Bytes::copy_from_slice),
    };
    vec![
        plain(1_700_000_000_000, Some(b"key"), Some(b"value"), vec![]),
        plain(1_700_000_000_001, None, Some(b""), vec![]),
        plain(1_700_000_000_050, Some(b""), None, vec![header("h", None)]),
        plain(
            1_700_000_100_000,
            Some(&[0; 200]),
            Some(&[42; 70_000]),
            vec![header("a", Some(b"1")), header("b\u{e9}", Some(b""))],
        ),
        plain(1_700_000_000_002, None, None, vec![]),
    ]
}

#[test]
fn they_read_what_we_write() {
    for codec in Compression::ALL {
        for stamp in [None, Some(stamp())] {
            let mut batch = BytesMut::from(&encode_ours(&samples(), codec, stamp)[..]);
            set_position(&mut batch, Offset(500), 9).unwrap();
            let set = decode_theirs(batch.freeze());
            assert_eq!(set.compression, their_codec(codec));
            let mut expected = to_theirs(&samples(), stamp);
            for (record, offset) in expected.iter_mut().zip(500..) {
                record.offset = offset;
                record.partition_leader_epoch = 9;
            }
            assert_eq!(set.records, expected, "{codec}");
        }
    }
}

#[test]
fn we_read_what_they_write() {
    for codec in Compression::ALL {
        for stamp in [None, Some(stamp())] {
            let mut batch =
                BytesMut::from(&encode_theirs(&to_theirs(&samples(), stamp), codec)[..]);
            // Their encoder takes the least timestamp as the base and leaves all else as we would have it.
            let header = validate(&batch, &Limits::default()).unwrap();
            assert_eq!((header.producer, header.compression), (stamp, codec));
            assert_eq!(header.max_timestamp_ms, 1_700_000_100_000);
            assert_eq!(decode_ours(batch.clone().freeze()), samples(), "{codec}");
            set_position(&mut batch, Offset(500), 9).unwrap();
            let last = Records::open(batch.freeze(), PLENTY).unwrap().last();
            assert_eq!(last.unwrap().unwrap().offset, Offset(504));
        }
    }
}

#[test]
fn uncompressed_batches_are_equal_byte_for_byte() {
    let records = &samples()[..4];
    for stamp in [None, Some(stamp())] {
        assert_eq!(
            encode_ours(records, Compression::None, stamp),
            encode_theirs(&to_theirs(records, stamp), Compression::None)
        );
    }
}

#[test]
fn they_see_the_append_time_and_the_producer_we_patch_in() {
    for codec in Compression::ALL {
        let mut batch = BytesMut::from(&encode_ours(&samples(), codec, None)[..]);
        set_log_append_time(&mut batch, 1_800_000_000_000).unwrap();
        set_producer(&mut batch, Some(stamp())).unwrap();
        let set = decode_theirs(batch.freeze());
        for (record, sequence) in set.records.iter().zip(1_000..) {
            assert_eq!(record.timestamp_type, theirs::TimestampType::LogAppend);
            assert_eq!(record.producer_id, 123_456_789);
            assert_eq!((record.producer_epoch, record.sequence), (7, sequence));
        }
    }
}

fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
    let bytes = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..80),
        1 => (any::<u8>(), 0_usize..40_000).prop_map(|(byte, length)| vec![byte; length]),
    ];
    proptest::option::of(bytes.prop_map(Bytes::from))
}

fn any_record(timestamps_ms: Range<i64>) -> impl Strategy<Value = Plain> {
    let headers = proptest::collection::btree_map("[a-z]{0,9}", any_bytes(), 0..4);
    (timestamps_ms, any_bytes(), any_bytes(), headers).prop_map(
        |(timestamp_ms, key, value, headers)| Plain {
            timestamp_ms,
            key,
            value,
            headers: headers
                .into_iter()
                .map(|(key, value)| Header { key, value })
                .collect(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_batch_round_trips_through_us(
        records in proptest::collection::vec(any_record(-(1 << 62)..1 << 62), 1..20),
        codec in 0_usize..5,
    ) {
        let ours = encode_ours(&records, Compression::ALL[codec], None);
        prop_assert!(validate(&ours, &Limits::default()).is_ok());
        prop_assert_eq!(&decode_ours(ours), &records);
    }

    /// The timestamps of a batch stay within 2^31 ms of each other: their decoder reads the deltas as 32-bit integers.
    #[test]
    fn every_batch_round_trips_through_us_and_through_them(
        records in proptest::collection::vec(any_record(-1_000_000_000..1_000_000_000), 1..20),
        codec in 0_usize..5,
        stamped: bool,
    ) {
        let codec = Compression::ALL[codec];
        let stamp = stamped.then(stamp);
        let ours = encode_ours(&records, codec, stamp);
        prop_assert!(validate(&ours, &Limits::default()).is_ok());
        prop_assert_eq!(&decode_ours(ours.clone()), &records);
        let theirs = to_theirs(&records, stamp);
        prop_assert_eq!(&decode_theirs(ours).records, &theirs);
        prop_assert_eq!(&decode_ours(encode_theirs(&theirs, codec)), &records);
    }
}
