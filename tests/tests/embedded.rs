//! The client crate and a broker in one program, as somebody's tests have them.

use highwater_broker::Broker;
use highwater_client::{Client, Error, NewTopic, Record, Start};

async fn round_trip(client: &Client) -> Result<(), Error> {
    let flights = NewTopic::new("flights").partitions(3);
    client.admin().create_topic(flights).await?;
    let producer = client.producer().build()?;
    let record = Record::to("flights").key("AA").value("JFK,MIA");
    let receipt = producer.send(record).await?.await?;
    assert_eq!(receipt.offset, 0);
    producer.close().await?;

    let mut consumer = client
        .consumer()
        .assign("flights", receipt.partition, Start::Earliest)
        .build()
        .await?;
    let record = consumer.recv().await?;
    assert_eq!(record.value.as_deref(), Some(&b"JFK,MIA"[..]));
    Ok(())
}

#[tokio::test]
async fn a_client_needs_no_port() {
    let broker = Broker::builder()
        .in_memory()
        .without_ports()
        .start()
        .await
        .expect("it starts");
    let client = Client::builder()
        .connector(broker.connector())
        .connect(broker.address())
        .await
        .expect("it connects");
    round_trip(&client).await.expect("records come back");
    drop(client);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_consumer_can_go_back_to_the_start_as_often_as_it_likes() {
    let broker = Broker::builder()
        .in_memory()
        .without_ports()
        .start()
        .await
        .expect("it starts");
    let client = Client::builder()
        .connector(broker.connector())
        .connect(broker.address())
        .await
        .expect("it connects");
    reread(&client).await.expect("records come again");
    drop(client);
    broker.shutdown().await;
}

/// Reads a partition from its start more often than one connection carries calls at a time.
async fn reread(client: &Client) -> Result<(), Error> {
    const RECORDS: u64 = 100;
    const ROUNDS: usize = 300;
    let flights = NewTopic::new("flights").partitions(1);
    client.admin().create_topic(flights).await?;
    let producer = client.producer().build()?;
    for _ in 0..RECORDS {
        drop(
            producer
                .send(Record::to("flights").value("JFK,MIA"))
                .await?,
        );
    }
    producer.close().await?;

    let mut consumer = client
        .consumer()
        .assign("flights", 0, Start::Earliest)
        .build()
        .await?;
    for _ in 0..ROUNDS {
        for offset in 0..RECORDS {
            assert_eq!(consumer.recv().await?.offset, offset);
        }
        consumer.seek("flights", 0, Start::Earliest)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_connects_to_the_port_that_was_free() {
    let broker = Broker::builder()
        .in_memory()
        .start()
        .await
        .expect("it starts");
    let client = Client::connect(broker.address())
        .await
        .expect("it connects");
    round_trip(&client).await.expect("records come back");
}

#[tokio::test]
async fn a_client_hears_that_its_broker_has_stopped() {
    let broker = Broker::builder()
        .in_memory()
        .without_ports()
        .start()
        .await
        .expect("it starts");
    let (connector, address) = (broker.connector(), broker.address().to_owned());
    broker.shutdown().await;
    let connecting = Client::builder()
        .connector(connector)
        .connect(&address)
        .await;
    let error = connecting.expect_err("nobody is there");
    assert!(error.to_string().contains("has stopped"), "{error}");
}
