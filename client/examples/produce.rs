//! Sends the lines of standard input to a topic: `cargo run --example produce -- flights < flights.tsv`.

use std::io::BufRead;

use highwater_client::{Client, Record};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let topic = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "flights".to_owned());
    let client = Client::connect("127.0.0.1:7410").await?;
    let producer = client.producer().build()?;
    let mut count = 0_u64;
    for line in std::io::stdin().lock().lines() {
        // The delivery is dropped: `close` waits for all records and reports a failure of any.
        drop(producer.send(Record::to(&topic).value(&line?)).await?);
        count += 1;
    }
    producer.close().await?;
    println!("{count} records are stored");
    Ok(())
}
