//! Prints the records of a topic, from the first of each partition on, until it is stopped:
//! `cargo run --example consume -- flights`.

use highwater_client::{Client, Start};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let topic = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "flights".to_owned());
    let client = Client::connect("127.0.0.1:7410").await?;
    let described = client.admin().describe_topic(&topic).await?;
    let mut builder = client.consumer();
    for partition in described.partitions {
        builder = builder.assign(&topic, partition.partition, Start::Earliest);
    }
    let mut consumer = builder.build().await?;
    loop {
        let record = consumer.recv().await?;
        let value = record.value.unwrap_or_default();
        let value = String::from_utf8_lossy(&value);
        println!("{}:{} {value}", record.partition, record.offset);
    }
}
