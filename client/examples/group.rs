//! Reads a topic as one of a consumer group: `cargo run --example group -- TOPIC GROUP [HOST:PORT]`. Start it several times.

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
        .on_rebalance(|rebalance| match rebalance {
            Rebalance::Assigned(partitions) => eprintln!("reads {partitions:?}"),
            Rebalance::Revoked(partitions) => eprintln!("gives away {partitions:?}"),
            Rebalance::Lost(partitions) => eprintln!("lost {partitions:?}"),
        })
        .build()
        .await?;
    loop {
        let record = tokio::select! {
            record = consumer.recv() => record?,
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                break;
            }
        };
        // By the next call of `recv` the record counts as processed, and is committed soon.
        println!("{}/{} {:?}", record.partition, record.offset, record.value);
    }
    // What was processed is committed, and the others go on with these partitions at once.
    consumer.close().await?;
    Ok(())
}
