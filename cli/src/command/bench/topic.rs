//! The topic that a benchmark writes to and reads from.

use clap::Args;
use highwater_client::{Admin, Client, NewTopic, Reason};
use serde::Serialize;
use uuid::Uuid;

use super::amount::Size;
use crate::explain::explain;
use crate::failure::Failure;

/// Which topic, and what it is like where it is made.
#[derive(Debug, Clone, Args, Serialize)]
#[group(id = "topic_options")]
#[command(next_help_heading = "Topic")]
pub(crate) struct Options {
    /// Use this topic; it is made, and deleted afterwards, when it is not there [default: one with a random name]
    #[arg(long)]
    #[serde(skip)]
    topic: Option<String>,

    /// Keep the topic that was made
    #[arg(long)]
    #[serde(skip)]
    keep_topic: bool,

    /// Number of partitions
    #[arg(short, long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(skip)]
    partitions: u32,

    /// Replicas of each partition
    #[arg(short, long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    replicas: u32,

    /// Acknowledge from memory (write.caching=true) instead of from disk
    #[arg(long)]
    pub(crate) write_caching: bool,

    /// Let old segments of a partition go beyond so many bytes (retention.bytes): they are recycled
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<Size>,

    /// Size of a segment (segment.bytes)
    #[arg(long, value_name = "BYTES")]
    segment_bytes: Option<Size>,
}

/// A topic that is there.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    /// Its name.
    pub(crate) name: String,
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// Whether it was made here.
    pub(crate) is_new: bool,
    /// Whether it is deleted at the end.
    is_temporary: bool,
}

impl Topic {
    /// Finds or makes the topic.
    pub(crate) async fn new(client: &Client, options: &Options) -> Result<Self, Failure> {
        let admin = client.admin();
        let name = options
            .topic
            .clone()
            .unwrap_or_else(|| format!("bench-{}", Uuid::new_v4().simple()));
        let what = format!("cannot create topic \"{name}\"");
        match admin.create_topic(options.new_topic(&name)).await {
            Ok(created) => Ok(Self {
                name,
                partitions: created.partitions,
                is_new: true,
                is_temporary: !options.keep_topic,
            }),
            Err(error) if error.reason() == Reason::TopicAlreadyExists => {
                Self::existing(&admin, name).await
            }
            Err(error) => Err(explain(what, &error)),
        }
    }

    async fn existing(admin: &Admin, name: String) -> Result<Self, Failure> {
        let found = admin
            .describe_topic(&name)
            .await
            .map_err(|error| explain(format!("cannot describe topic \"{name}\""), &error))?;
        Ok(Self {
            name,
            partitions: u32::try_from(found.partitions.len()).unwrap_or(u32::MAX),
            is_new: false,
            is_temporary: false,
        })
    }

    /// Deletes the topic if it was made here, and is not to be kept.
    pub(crate) async fn remove(&self, client: &Client) -> Result<(), Failure> {
        if !self.is_temporary {
            return Ok(());
        }
        let deleted = client.admin().delete_topic(&self.name, None).await;
        deleted.map_err(|error| explain(format!("cannot delete topic \"{}\"", self.name), &error))
    }
}

impl Options {
    fn new_topic(&self, name: &str) -> NewTopic {
        let mut topic = NewTopic::new(name)
            .partitions(self.partitions)
            .replication_factor(self.replicas);
        if self.write_caching {
            topic = topic.config("write.caching", true);
        }
        for (config, size) in [
            ("retention.bytes", self.retention_bytes),
            ("segment.bytes", self.segment_bytes),
        ] {
            if let Some(Size(bytes)) = size {
                topic = topic.config(config, bytes);
            }
        }
        topic
    }
}
