//! Measures what the store writes and syncs: rounds in which each of some logs gets one batch, with one sync for all.
//!
//! `cargo run --release -p highwater-storage --example rounds -- DIRECTORY [LOGS] [BATCH_BYTES] [SECONDS]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_storage::fs::RealFs;
use highwater_storage::{
    AppliedState, Config, FrameKind, Log, LogId, LogSpec, NewFrame, Pressure, Store, Term,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("say in which directory to write")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (logs, batch_bytes, seconds) = (number(64)?, number(4096)?, number(5)?);

    let mut state = 1_u64;
    let random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state
    };
    let opened = Store::open(
        Arc::new(RealFs::new(directory)?),
        Box::new(random),
        Config::default(),
    )?;
    let store = opened.store;
    let mut turn = store.turn();
    let mut logs: Vec<Log> = (1..=logs)
        .map(|id| {
            let spec = LogSpec {
                directory: format!("topics/rounds/{id}"),
                max_segment_bytes: 1 << 30,
                write_caching: false,
            };
            store.create_log(&mut turn, LogId(id), spec, AppliedState::default())
        })
        .collect::<Result<_, _>>()?;
    store.submit(turn);
    store.sync()?;

    let payload = batch(usize::try_from(batch_bytes)?);
    let start = Instant::now();
    let (mut rounds, mut checkpoints, mut in_checkpoints) = (0_u64, 0, Duration::ZERO);
    while start.elapsed() < Duration::from_secs(seconds) {
        let mut turn = store.turn();
        for log in &mut logs {
            let frame = NewFrame {
                index: log.last_index().next(),
                term: Term(1),
                kind: FrameKind::Batch,
                record_count: 1,
                max_timestamp_ms: 0,
                payload: payload.clone(),
            };
            log.append(&mut turn, &[frame])?;
        }
        store.submit(turn);
        store.sync()?;
        rounds += 1;
        if store.checkpoint_pressure() >= Pressure::Due {
            let begun = Instant::now();
            let mut checkpoint = store.begin_checkpoint()?;
            checkpoint.sync_segments()?;
            checkpoint.finish(
                logs.iter_mut()
                    .map(|log| log.capture(AppliedState::default()))
                    .collect(),
            )?;
            checkpoints += 1;
            in_checkpoints += begun.elapsed();
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    let batches = rounds * logs.len() as u64;
    println!(
        "{:.0} batches/s, {:.0} MB/s, {:.0} syncs/s; {checkpoints} checkpoints took {:.2} s of {elapsed:.2} s",
        batches as f64 / elapsed,
        (batches * batch_bytes) as f64 / elapsed / 1e6,
        rounds as f64 / elapsed,
        in_checkpoints.as_secs_f64(),
    );
    Ok(())
}

/// Bytes that are framed like a batch.
fn batch(len: usize) -> Bytes {
    let mut bytes = vec![7; len.max(61)];
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}
