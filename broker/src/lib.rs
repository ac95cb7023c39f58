//! The Highwater broker as a library.
//!
//! [`Broker::builder`] runs one inside any Tokio program: a test with a real broker needs no process, no port and no disk. The
//! `highwater-broker` program ([`Broker::start`]) adds flags, a configuration file and signals.
//!
//! ```
//! use highwater_broker::Broker;
//! use highwater_proto::v1;
//! use tonic::transport::Endpoint;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Broker::builder().in_memory().without_ports().start().await?;
//!
//! // Any gRPC client will do; without a port it connects by the broker's connector.
//! let channel = Endpoint::from_shared(format!("http://{}", broker.address()))?
//!     .connect_with_connector(broker.connector())
//!     .await?;
//! v1::admin_service_client::AdminServiceClient::new(channel.clone())
//!     .create_topic(v1::CreateTopicRequest { name: "flights".into(), ..Default::default() })
//!     .await?;
//!
//! let flights = v1::TopicPartition { topic: "flights".into(), ..Default::default() };
//! let record = v1::Record { value: Some("JFK,MIA".into()), ..Default::default() };
//! let records = v1::Records { records: vec![record] };
//! let produce = v1::ProduceRequest {
//!     items: vec![v1::ProduceItem {
//!         partition: Some(flights.clone()),
//!         payload: Some(v1::produce_item::Payload::Records(records)),
//!     }],
//!     ..Default::default()
//! };
//! v1::produce_service_client::ProduceServiceClient::new(channel.clone()).produce(produce).await?;
//!
//! let fetch = v1::FetchRequest {
//!     partitions: vec![v1::FetchPartition { partition: Some(flights), ..Default::default() }],
//!     max_bytes: 1 << 20,
//!     format: v1::RecordFormat::Records.into(),
//!     ..Default::default()
//! };
//! let fetched = v1::fetch_service_client::FetchServiceClient::new(channel).fetch(fetch).await?;
//! match fetched.into_inner().partitions[0].data.as_ref() {
//!     Some(v1::fetched_partition::Data::Records(found)) => {
//!         assert_eq!(found.records[0].value.as_deref(), Some(&b"JFK,MIA"[..]));
//!     }
//!     other => panic!("no records: {other:?}"),
//! }
//! broker.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! With the `highwater-client` crate the connection is `Client::connect(broker.address())`, or without a port
//! `Client::builder().connector(broker.connector()).connect(broker.address())`.

mod authorize;
mod budget;
pub mod command_line;
pub mod config;
pub mod controller;
mod controller_client;
mod coordination;
pub mod coordinator;
mod health;
mod hosted;
mod http;
mod metrics;
mod node;
mod offline;
mod open_files;
#[cfg(feature = "otlp")]
mod otlp;
pub mod partition;
mod peer;
mod producer_ids;
pub mod raft;
pub mod replica;
mod server;
mod service;
pub mod tls;
pub mod topic;
mod wall_clock;

pub use config::Config;
/// What [`BrokerBuilder::file_system`] takes.
pub use highwater_storage::fs;
pub use node::Error;
pub use open_files::raise_open_file_limit;
pub use server::{Addresses, Broker, BrokerBuilder, Connector};
