//! Creates a topic and shows where its partitions begin and end: `cargo run --example admin -- flights`.

use highwater_client::{Client, NewTopic, Reason, Start};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let topic = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "flights".to_owned());
    let client = Client::connect("127.0.0.1:7410").await?;
    let admin = client.admin();
    match admin
        .create_topic(NewTopic::new(&topic).partitions(8))
        .await
    {
        Ok(created) => println!("created {topic} with {} partitions", created.partitions),
        Err(error) if error.reason() == Reason::TopicAlreadyExists => println!("{topic} exists"),
        Err(error) => return Err(error.into()),
    }
    let described = admin.describe_topic(&topic).await?;
    for partition in described.partitions {
        let number = partition.partition;
        let earliest = admin.find_offset(&topic, number, Start::Earliest).await?;
        let latest = admin.find_offset(&topic, number, Start::Latest).await?;
        println!(
            "partition {number}: {} to {}",
            earliest.offset, latest.offset
        );
    }
    Ok(())
}
