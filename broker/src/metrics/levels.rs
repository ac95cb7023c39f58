//! What is read when somebody asks: levels, sizes, health.

use std::sync::Arc;

use highwater_proto::v1::HealthState;
use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use super::catalog::Catalog;
use crate::budget::Budget;
use crate::controller::ClusterView;
use crate::health::{Health, Readiness};
use crate::hosted::{Hosted, HostedCoordinator, HostedPartitions};
use crate::partition::Standing;
use crate::raft::Shards;
use crate::raft::machine::Role;
use crate::replica::Replica;
use crate::server::{Connections, ListenerName};
use crate::service::Context;

/// Where levels are read. Complete once the broker has started.
pub(crate) struct Sources {
    pub(crate) readiness: Readiness,
    pub(crate) budget: Budget,
    pub(crate) hosted: Arc<Hosted>,
    pub(crate) context: Arc<Context>,
    pub(crate) cluster: Arc<ClusterView>,
    pub(crate) health: Arc<Health>,
    pub(crate) shards: Shards<Replica>,
    /// By the listener's name.
    pub(crate) connections: Vec<(ListenerName, Connections)>,
}

impl Sources {
    pub(super) fn is_ready(&self) -> bool {
        self.readiness.is_ready()
    }
}

/// The metrics that are set from [`Sources`].
#[derive(Debug)]
pub(super) struct Levels {
    ready: IntGauge,
    findings: IntGaugeVec,
    directory_failed: IntGauge,
    failed_logs: IntGauge,
    damaged_logs: IntGauge,
    disk_free: IntGauge,
    disk_floor: IntGauge,
    disk_refusing: IntGauge,
    log_bytes: IntGauge,
    log_segments: IntGauge,
    open_segments: IntGauge,
    log_entries: IntCounter,
    log_entry_bytes: IntCounter,
    written_bytes: IntCounter,
    topics: IntGauge,
    partitions: IntGaugeVec,
    under_replicated: IntGauge,
    leads_controller: IntGauge,
    coordinators: IntGauge,
    groups: IntGauge,
    group_members: IntGauge,
    mailbox_messages: IntGaugeVec,
    mailbox_bytes: IntGaugeVec,
    memory_bytes: IntGauge,
    memory_limit: IntGauge,
    connections: IntGaugeVec,
    connection_limit: IntGaugeVec,
    connections_refused: prometheus::IntCounterVec,
}

impl Levels {
    #[expect(clippy::too_many_lines, reason = "a list with a sentence for each")]
    pub(super) fn new(catalog: &mut Catalog) -> Self {
        catalog.section("Health");
        let ready = catalog.gauge(
            "highwater_ready",
            "1 while the broker serves clients, as /readyz says",
        );
        let findings = catalog.gauges(
            "highwater_health_findings",
            "What somebody should know of this broker; `highwater cluster health` and /readyz say what it is",
            &["state"],
        );
        let directory_failed = catalog.gauge(
            "highwater_data_directory_failed",
            "1 when a write or sync of the journal or a checkpoint failed: nothing is acknowledged until the broker is \
             restarted on a sound disk",
        );
        let failed_logs = catalog.gauge(
            "highwater_failed_logs",
            "Logs that take no more records since a write failed",
        );
        let damaged_logs = catalog.gauge(
            "highwater_damaged_logs",
            "Logs in which readers met damage since the start. Damage that the start found is in highwater_health_findings",
        );
        catalog.section("Disk");
        let disk_free = catalog.gauge(
            "highwater_disk_free_bytes",
            "Bytes that are free on the file system of the data directory",
        );
        let disk_floor = catalog.gauge(
            "highwater_disk_floor_bytes",
            "Free bytes below which records are refused (storage.min_free_bytes)",
        );
        let disk_refusing = catalog.gauge(
            "highwater_disk_refusing",
            "1 while records are refused because the disk is full down to that reserve",
        );
        let log_bytes = catalog.gauge(
            "highwater_log_bytes",
            "Bytes of the logs of all partitions on this broker",
        );
        let log_segments = catalog.gauge(
            "highwater_log_segments",
            "Segments of the logs of all partitions on this broker",
        );
        let open_segments = catalog.gauge(
            "highwater_open_segment_files",
            "Segment files that are open",
        );
        let log_entries = catalog.counter(
            "highwater_log_entries_total",
            "Raft entries written to logs: batches, elections, events of the controller",
        );
        let log_entry_bytes =
            catalog.counter("highwater_log_entry_bytes_total", "Bytes of those entries");
        let written_bytes = catalog.counter(
            "highwater_written_bytes_total",
            "Bytes written to the journal, and bytes that topics with write.caching wrote to memory only",
        );
        catalog.section("Cluster");
        let topics = catalog.gauge("highwater_topics", "Topics of the cluster");
        let partitions = catalog.gauges(
            "highwater_partitions",
            "Partitions on this broker: led here; electing a leader; led elsewhere; idle, not needed since the start, and \
             led here as soon as they are; failed, which take no records",
            &["state"],
        );
        let under_replicated = catalog.gauge(
            "highwater_under_replicated_partitions",
            "Partitions that are led here and have replicas that are not in sync",
        );
        let leads_controller = catalog.gauge(
            "highwater_controller_leader",
            "1 on the broker that leads the controller",
        );
        catalog.section("Consumer groups");
        let coordinators = catalog.gauge(
            "highwater_group_coordinators",
            "Coordinators that are led here; those of all brokers together are groups.coordinators once a group was asked for",
        );
        let groups = catalog.gauge(
            "highwater_groups",
            "Consumer groups of the coordinators that are led here",
        );
        let group_members = catalog.gauge("highwater_group_members", "Members of those groups");
        catalog.section("Queues and memory");
        let mailbox_messages = catalog.gauges(
            "highwater_shard_mailbox_messages",
            "Commands and messages that wait for a shard",
            &["shard"],
        );
        let mailbox_bytes = catalog.gauges(
            "highwater_shard_mailbox_bytes",
            "Bytes of what waits for a shard",
            &["shard"],
        );
        let memory_bytes = catalog.gauge(
            "highwater_request_memory_bytes",
            "Memory that requests and answers hold",
        );
        let memory_limit = catalog.gauge(
            "highwater_request_memory_limit_bytes",
            "Memory that they may hold (requests.memory_bytes); beyond it requests wait or are refused",
        );
        catalog.section("Connections");
        let connections = catalog.gauges(
            "highwater_connections",
            "Connections that are open",
            &["listener"],
        );
        let connection_limit = catalog.gauges(
            "highwater_connection_limit",
            "Connections that may be open",
            &["listener"],
        );
        let connections_refused = catalog.counters(
            "highwater_connections_refused_total",
            "Connections that were closed at once because of that limit",
            &["listener"],
        );
        Self {
            ready,
            findings,
            directory_failed,
            failed_logs,
            damaged_logs,
            disk_free,
            disk_floor,
            disk_refusing,
            log_bytes,
            log_segments,
            open_segments,
            log_entries,
            log_entry_bytes,
            written_bytes,
            topics,
            partitions,
            under_replicated,
            leads_controller,
            coordinators,
            groups,
            group_members,
            mailbox_messages,
            mailbox_bytes,
            memory_bytes,
            memory_limit,
            connections,
            connection_limit,
            connections_refused,
        }
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    pub(super) fn read(&self, sources: &Sources) {
        self.read_health(&sources.health);
        let partitions = sources.hosted.load();
        self.read_partitions(&partitions);
        self.under_replicated
            .set(level(sources.context.under_replicated().len()));
        self.read_coordinators(&partitions);
        self.read_shards(&sources.shards);
        self.topics
            .set(level(sources.cluster.image().client_topics().count()));
        let leads = matches!(sources.cluster.role(), Some(Role::Leader { .. }));
        self.leads_controller.set(i64::from(leads));
        let budget = &sources.budget;
        let held = budget.total_bytes().saturating_sub(budget.free_bytes());
        self.memory_bytes.set(level(held));
        self.memory_limit.set(level(budget.total_bytes()));
        for (listener, connections) in &sources.connections {
            let labels = &[listener.as_str()];
            let open = level(connections.open());
            self.connections.with_label_values(labels).set(open);
            let limit = level(connections.limit());
            self.connection_limit.with_label_values(labels).set(limit);
            let refused = self.connections_refused.with_label_values(labels);
            follow(&refused, connections.refused());
        }
    }

    fn read_health(&self, health: &Health) {
        let findings = health.findings();
        for (label, state) in [
            ("warning", HealthState::Warning),
            ("critical", HealthState::Critical),
        ] {
            let of_state = findings.iter().filter(|finding| finding.state() == state);
            self.findings
                .with_label_values(&[label])
                .set(level(of_state.count()));
        }
        let store = health.store();
        let directory = store.health();
        self.directory_failed
            .set(i64::from(directory.poisoned.is_some()));
        self.failed_logs.set(level(directory.poisoned_logs.len()));
        self.damaged_logs.set(level(directory.damaged_logs.len()));
        let space = store.space();
        self.disk_free.set(level(space.free_bytes));
        self.disk_floor.set(level(space.floor_bytes));
        self.disk_refusing.set(i64::from(space.refusing));
        self.open_segments.set(level(store.open_segments()));
        follow(&self.written_bytes, store.written_bytes());
    }

    fn read_partitions(&self, partitions: &HostedPartitions) {
        let (mut bytes, mut count) = (0, 0);
        let mut states = [
            ("leading", 0),
            ("electing", 0),
            ("following", 0),
            ("idle", 0),
            ("failed", 0),
        ];
        for partition in partitions.iter() {
            let segments = partition.reader.segments();
            bytes += segments.iter().map(|segment| segment.bytes).sum::<u64>();
            count += segments.len();
            let state = match partition.shared.standing() {
                Standing::Serving { .. } => 0,
                Standing::Opening { .. } => 1,
                Standing::Following {
                    leader: Some(_), ..
                } => 2,
                Standing::Following { leader: None, .. } => 3,
                Standing::Quarantined => 4,
            };
            states[state].1 += 1;
        }
        self.log_bytes.set(level(bytes));
        self.log_segments.set(level(count));
        for (state, count) in states {
            self.partitions.with_label_values(&[state]).set(count);
        }
    }

    fn read_coordinators(&self, partitions: &HostedPartitions) {
        let leads =
            |coordinator: &&HostedCoordinator| coordinator.partition.shared.standing().is_serving();
        let led: Vec<_> = partitions.coordinators().filter(leads).collect();
        let sum = |count: fn(&HostedCoordinator) -> usize| {
            level(led.iter().map(|one| count(one)).sum::<usize>())
        };
        self.coordinators.set(level(led.len()));
        self.groups
            .set(sum(|coordinator| coordinator.view.groups()));
        self.group_members
            .set(sum(|coordinator| coordinator.view.members()));
    }

    fn read_shards(&self, shards: &Shards<Replica>) {
        for (number, mailbox) in shards.mailboxes().enumerate() {
            let shard = number.to_string();
            let labels = &[shard.as_str()];
            let messages = self.mailbox_messages.with_label_values(labels);
            messages.set(level(mailbox.messages));
            let bytes = self.mailbox_bytes.with_label_values(labels);
            bytes.set(level(mailbox.bytes));
        }
        let counters = shards.counters();
        let entries = counters.iter().map(|shard| shard.entries()).sum();
        follow(&self.log_entries, entries);
        let bytes = counters.iter().map(|shard| shard.entry_bytes()).sum();
        follow(&self.log_entry_bytes, bytes);
    }
}

/// Moves a counter to what another counted.
fn follow(counter: &IntCounter, counted: u64) {
    counter.inc_by(counted.saturating_sub(counter.get()));
}

fn level(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
