//! The client of Highwater: producer, consumer and admin.
//!
//! ```no_run
//! use highwater_client::{Client, NewTopic, Record, Start};
//!
//! # async fn quick_start() -> Result<(), highwater_client::Error> {
//! let client = Client::connect("127.0.0.1:7410").await?;
//! client.admin().create_topic(NewTopic::new("flights").partitions(8)).await?;
//!
//! // `send` takes a record in; what it returns resolves when the record is safe on disk.
//! let producer = client.producer().build()?;
//! let delivery = producer.send(Record::to("flights").key("AA").value("JFK,MIA")).await?;
//! let receipt = delivery.await?;
//! println!("stored in partition {} at offset {}", receipt.partition, receipt.offset);
//! producer.close().await?;
//!
//! let mut consumer = client
//!     .consumer()
//!     .assign("flights", receipt.partition, Start::Earliest)
//!     .build()
//!     .await?;
//! let record = consumer.recv().await?;
//! println!("read {:?} at offset {}", record.value, record.offset);
//! # Ok(())
//! # }
//! ```
//!
//! - A [`Producer`] gathers records into batches and sends each record once: broken connections, restarted brokers and
//!   moved leaders neither lose nor double it.
//! - A [`Consumer`] reads assigned partitions in order, and goes on exactly behind the last record it gave out.
//!   [`Consumer::process_by_key`] processes many at a time, those of one key in order.
//! - A [`GroupConsumer`] reads as a member of a consumer group: partitions are shared out among the members, and each goes on
//!   where the group committed last. [`GroupConsumer::process_by_key`] is there too.
//! - An [`Admin`] creates, describes, changes and deletes topics, finds offsets, and looks after consumer groups.
//!
//! The client finds the leaders of partitions by itself, and follows them. Every [`Error`] says whether trying again can
//! help, and whether it is safe.
//!
//! Left out for now: transactions.

mod admin;
mod client;
mod cluster;
mod connector;
mod consumer;
mod coordinator;
mod doubt;
mod error;
mod group;
mod groups;
mod metadata;
mod offsets;
mod producer;
mod recovery;
mod retry;
mod tls;
mod watch;

pub use admin::{Admin, ConfigChanges, CreatedTopic, Moves, NewTopic};
pub use client::{Client, ClientBuilder};
pub use consumer::{
    Assignment, ByKey, ConsumedRecord, Consumer, ConsumerBuilder, OffsetReset, Processed,
    ProcessingError,
};
pub use error::Error;
pub use group::{
    Commits, Committed, GroupByKey, GroupConsumer, GroupConsumerBuilder, GroupPartition, Rebalance,
};
pub use highwater_proto::batch::{Compression, Header, Headers};
pub use highwater_proto::{ApiError, Offset, Reason, TopicId};
pub use offsets::{FoundOffset, Start};
pub use producer::{Acks, Delivery, Producer, ProducerBuilder, Receipt, Record};
pub use recovery::{LostPartition, Survivor};
pub use tls::{Tls, TlsProblem};

/// The messages of the protocol that answers of [`Admin`] consist of.
pub use highwater_proto::v1 as protocol;
