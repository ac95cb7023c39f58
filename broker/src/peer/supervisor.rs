//! Keeps a link to each other broker, and watches over who is up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_proto::BrokerId;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::link::Link;
use super::outbox::{Lane, Outbox};
use super::routes::Address;
use super::shared::{Groups, Outboxes, Shared};
use crate::controller::{ClusterImage, ClusterView};

/// See the module's documentation.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    groups: Arc<dyn Groups>,
    links: HashMap<BrokerId, Running>,
    tasks: TaskTracker,
    last: Arc<ClusterImage>,
}

/// A link and where it leads. It ends when this is dropped.
struct Running {
    address: Address,
    outbox: Arc<Outbox>,
    _stop: DropGuard,
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>, groups: Arc<dyn Groups>) -> Self {
        Self {
            shared,
            groups,
            links: HashMap::new(),
            tasks: TaskTracker::new(),
            last: Arc::default(),
        }
    }

    /// Runs until `stop`, and waits for the links to end.
    pub(super) async fn run(
        mut self,
        cluster: &ClusterView,
        interval_ms: u64,
        stop: CancellationToken,
    ) {
        let mut images = cluster.watch();
        let mut addresses = self.shared.routes.addresses_changed();
        let mut ticks = tokio::time::interval(Duration::from_millis(interval_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.follow(&images.borrow_and_update().clone());
        addresses.mark_unchanged();
        self.keep_links();
        loop {
            tokio::select! {
                // Signs of life go first: nothing must delay them.
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick(), if !self.links.is_empty() => self.tick(),
                changed = addresses.changed() => match changed {
                    Ok(()) => self.keep_links(),
                    Err(_) => break,
                },
                changed = images.changed() => match changed {
                    Ok(()) => {
                        let image = Arc::clone(&images.borrow_and_update());
                        self.follow(&image);
                    }
                    Err(_) => break,
                },
            }
        }
        self.links.clear();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn tick(&self) {
        self.shared.tick(&*self.groups);
        for (broker, link) in &self.links {
            let broker = broker.to_string();
            for lane in Lane::ALL {
                let labels = [broker.as_str(), lane.label()];
                let (messages, bytes) = link.outbox.level(lane);
                let metrics = &self.shared.metrics;
                let level = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
                let gauge = metrics.queue_messages.with_label_values(&labels);
                gauge.set(level(messages));
                let gauge = metrics.queue_bytes.with_label_values(&labels);
                gauge.set(level(bytes));
            }
        }
    }

    fn follow(&mut self, image: &Arc<ClusterImage>) {
        if let Some(cluster_id) = image.cluster_id() {
            self.shared.identity.enter(cluster_id);
        }
        let gone = self.shared.routes.follow(&self.last, image);
        if !gone.is_empty() {
            self.shared.leaders.forget(gone);
        }
        self.last = Arc::clone(image);
    }

    /// Ends the links that lead nowhere any more, and begins those that are missing.
    fn keep_links(&mut self) {
        let others = self.shared.routes.others();
        self.links
            .retain(|broker, link| others.get(broker) == Some(&link.address));
        let mut new = Vec::new();
        for (broker, address) in &others {
            if !self.links.contains_key(broker) {
                let (running, link, stop) = self.prepare(*broker, address.clone());
                self.links.insert(*broker, running);
                new.push(link.run(stop));
            }
        }
        let outboxes: Outboxes = self
            .links
            .iter()
            .map(|(broker, link)| (*broker, Arc::clone(&link.outbox)))
            .collect();
        self.shared.outboxes.store(Arc::new(outboxes));
        // A link that is connected must be announced to: it begins when its outbox is found.
        for link in new {
            self.tasks.spawn(link);
        }
        let others: Vec<_> = others.into_keys().collect();
        let changes = self.shared.liveness().set_others(&others);
        self.shared.tell(changes, &*self.groups);
    }

    fn prepare(&self, broker: BrokerId, address: Address) -> (Running, Link, CancellationToken) {
        let outbox = Arc::new(Outbox::new(self.shared.outbox_limits));
        let stop = CancellationToken::new();
        let link = Link {
            shared: Arc::clone(&self.shared),
            broker,
            address: address.clone(),
            outbox: Arc::clone(&outbox),
        };
        let running = Running {
            address,
            outbox,
            _stop: stop.clone().drop_guard(),
        };
        (running, link, stop)
    }
}
