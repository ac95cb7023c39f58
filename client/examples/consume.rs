//! Prints the records of partition 0 of a topic, from the first on: `cargo run --example consume -- flights`.

use highwater_client::{Client, Start};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let topic = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "flights".to_owned());
    let client = Client::connect("127.0.0.1:7410").await?;
    let mut consumer = client
        .consumer()
        .assign(&topic, 0, Start::Earliest)
        .build()
        .await?;
    loop {
        let record = consumer.recv().await?;
        let value = record.value.unwrap_or_default();
        println!("{} {}", record.offset, String::from_utf8_lossy(&value));
    }
}
