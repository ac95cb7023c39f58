//! A member of a consumer group as a process of its own, to be killed and frozen. It writes down what happens to it.
//!
//! `group-member NUMBER ADDRESSES GROUP TOPIC SESSION_MS DIARY`; it leaves at SIGTERM. Members with odd numbers process by key.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use highwater_client::{Client, GroupConsumer, Rebalance};
use highwater_tests::group_diary::{Happening, Line};
use tokio::signal::unix::{SignalKind, signal};

/// So often members commit: often, so that commits meet everything else that happens.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

/// One line at a time, in a file that all members write to.
#[derive(Clone)]
struct Diary {
    member: u32,
    file: Arc<File>,
}

impl Diary {
    fn note(&self, what: Happening) {
        let line = Line {
            member: self.member,
            what,
        };
        // One call of the system, so that lines of several processes do not mix.
        let written = (&*self.file).write_all(format!("{line}\n").as_bytes());
        written.expect("the diary can be written");
    }

    fn follow(&self, rebalance: &Rebalance) {
        let (what, partitions): (fn(u32) -> Happening, _) = match rebalance {
            Rebalance::Assigned(partitions) => (Happening::Took, partitions),
            Rebalance::Revoked(partitions) => (Happening::Revoked, partitions),
            Rebalance::Lost(partitions) => (Happening::Lost, partitions),
        };
        for each in partitions {
            self.note(what(each.partition));
        }
    }
}

/// On one thread, so that nothing is processed between hearing of a loss and ending what was at hand.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [number, addresses, group, topic, session_ms, diary] = &arguments[..] else {
        anyhow::bail!("NUMBER ADDRESSES GROUP TOPIC SESSION_MS DIARY are wanted");
    };
    let diary = Diary {
        member: number.parse().context("NUMBER")?,
        file: Arc::new(OpenOptions::new().append(true).open(diary)?),
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let client = Client::connect(addresses).await?;
    let listener = diary.clone();
    let mut consumer = client
        .consumer()
        .group(group)
        .topics([topic])
        .client_id(number)
        .session_timeout(Duration::from_millis(
            session_ms.parse().context("SESSION_MS")?,
        ))
        .auto_commit(COMMIT_INTERVAL)
        .on_rebalance(move |rebalance, _| listener.follow(rebalance))
        .build()
        .await?;
    tokio::select! {
        result = process(&mut consumer, &diary) => result?,
        _ = terminated.recv() => {}
    }
    diary.note(Happening::Left);
    consumer.close().await?;
    Ok(())
}

async fn process(consumer: &mut GroupConsumer, diary: &Diary) -> anyhow::Result<()> {
    if diary.member.is_multiple_of(2) {
        loop {
            let record = consumer.recv().await?;
            diary.note(Happening::Did(record.partition, record.offset));
        }
    }
    let mut work = consumer.process_by_key(4, |record| {
        let diary = diary.clone();
        async move {
            // Records of other keys pass it.
            tokio::task::yield_now().await;
            diary.note(Happening::Did(record.partition, record.offset));
            Ok::<(), Infallible>(())
        }
    });
    loop {
        work.next().await?;
    }
}
