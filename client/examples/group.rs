//! Processes a topic as one of a consumer group, many records at a time and those of one key in order:
//! `cargo run --example group -- TOPIC GROUP [HOST:PORT]`. Start it several times.

use std::convert::Infallible;

use highwater_client::{Client, Rebalance};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "flights".into());
    let group = arguments.next().unwrap_or_else(|| "readers".into());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7410".into());

    let client = Client::connect(&address).await?;
    let mut consumer = client
        .consumer()
        .group(&group)
        .topics([&topic])
        .on_rebalance(|rebalance, _| match rebalance {
            Rebalance::Assigned(partitions) => eprintln!("reads {partitions:?}"),
            Rebalance::Revoked(partitions) => eprintln!("gives away {partitions:?}"),
            Rebalance::Lost(partitions) => eprintln!("lost {partitions:?}"),
        })
        .build()
        .await?;
    let mut work = consumer.process_by_key(10, |record| async move {
        println!("{}/{} {:?}", record.partition, record.offset, record.value);
        Ok::<(), Infallible>(())
    });
    loop {
        // What is done is committed every few seconds, and before its partition is given away.
        tokio::select! {
            processed = work.next() => drop(processed?),
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                break;
            }
        }
    }
    drop(work);
    // What was processed is committed, and the others go on with these partitions at once.
    consumer.close().await?;
    Ok(())
}
