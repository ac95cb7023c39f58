//! Several brokers that form one cluster, each a process of its own, with a [`Network`] between them that can fail.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::network::Network;
use crate::process::{Broker, Setup, free_address};

/// Brokers with the numbers 1, 2 and so on. Dropping it kills their processes.
///
/// Clients reach the brokers directly; the brokers reach each other through the network.
#[derive(Debug)]
pub struct Cluster {
    brokers: BTreeMap<u32, Broker>,
    /// Where each listens for the others.
    behind_doors: BTreeMap<u32, SocketAddr>,
    network: Network,
}

impl Cluster {
    /// Prepares folders, ports and the network of `count` brokers that know each other as seeds. Nothing runs yet.
    ///
    /// # Errors
    /// When a folder cannot be made or no port is free.
    pub fn new(setup: &Setup, count: u32) -> Result<Self> {
        let behind_doors = (1..=count)
            .map(|number| Ok((number, free_address()?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let network = Network::new(&behind_doors)?;
        let mut cluster = Self {
            brokers: BTreeMap::new(),
            behind_doors,
            network,
        };
        for number in 1..=count {
            let setup = cluster.setup_of(setup, number);
            cluster.brokers.insert(number, Broker::new(setup)?);
        }
        Ok(cluster)
    }

    /// A cluster whose brokers all serve.
    ///
    /// # Errors
    /// As [`Cluster::new`], or when a broker does not start.
    pub fn started(setup: &Setup, count: u32) -> Result<Self> {
        let mut cluster = Self::new(setup, count)?;
        for number in 1..=count {
            cluster.spawn(number)?;
        }
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// The configuration of one of its brokers: of another process, too, that claims to be that one.
    #[must_use]
    pub fn setup_of(&self, setup: &Setup, number: u32) -> Setup {
        let quoted = |text: &dyn ToString| format!("{:?}", text.to_string());
        setup
            .clone()
            .set("broker_id", number)
            .set("server.peer.address", quoted(&self.behind_doors[&number]))
            .set("server.peer.advertised", quoted(&self.network.door(number)))
            .set("cluster.seeds", quoted(&self.seeds()))
    }

    /// The list of seeds that each broker is given.
    #[must_use]
    pub fn seeds(&self) -> String {
        let seeds = self.behind_doors.keys();
        let seeds = seeds.map(|number| format!("{number}@{}", self.network.door(*number)));
        seeds.collect::<Vec<_>>().join(",")
    }

    /// The numbers of the brokers.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        let numbers: Vec<_> = self.brokers.keys().copied().collect();
        numbers.into_iter()
    }

    /// A broker.
    #[must_use]
    pub fn broker(&self, number: u32) -> &Broker {
        &self.brokers[&number]
    }

    /// The network between the brokers.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where clients find the brokers, whether or not they run.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.brokers.values().map(Broker::address).collect()
    }

    /// The number of the broker that clients find at an address.
    #[must_use]
    pub fn number_at(&self, address: SocketAddr) -> Option<u32> {
        let mut brokers = self.brokers.iter();
        brokers.find_map(|(number, broker)| (broker.address() == address).then_some(*number))
    }

    /// Starts a broker's process and returns at once.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn spawn(&mut self, number: u32) -> Result<()> {
        let broker = self.brokers.get_mut(&number).context("no such broker")?;
        broker.spawn()?;
        self.network.set_process(number, broker.process_id());
        Ok(())
    }

    /// Starts a broker and waits until it serves.
    ///
    /// # Errors
    /// When it exits or takes too long.
    pub fn start(&mut self, number: u32) -> Result<()> {
        self.spawn(number)?;
        self.change(number, Broker::wait_ready)
    }

    /// Waits until every broker that was spawned serves.
    ///
    /// # Errors
    /// When one exits or takes too long.
    pub fn wait_ready(&mut self) -> Result<()> {
        for number in self.numbers() {
            if self.broker(number).is_running() {
                self.change(number, Broker::wait_ready)?;
            }
        }
        Ok(())
    }

    /// Ends a broker as a crash does (`kill -9`).
    ///
    /// # Errors
    /// When it had ended by itself.
    pub fn kill(&mut self, number: u32) -> Result<()> {
        self.change(number, Broker::kill)
    }

    /// Asks a broker to stop and waits until it has.
    ///
    /// # Errors
    /// When it does not, or says that something went wrong.
    pub fn terminate(&mut self, number: u32) -> Result<()> {
        self.change(number, Broker::terminate)
    }

    /// Freezes a broker's process.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn freeze(&self, number: u32) -> Result<()> {
        self.broker(number).signal(Signal::STOP)
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn thaw(&self, number: u32) -> Result<()> {
        self.broker(number).signal(Signal::CONT)
    }

    /// Does something to a broker of which the number stands in every error.
    ///
    /// # Errors
    /// Those of what is done.
    pub fn change<T>(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut Broker) -> Result<T>,
    ) -> Result<T> {
        let broker = self.brokers.get_mut(&number).context("no such broker")?;
        let done = change(broker).with_context(|| format!("broker {number}"));
        self.network.set_process(number, broker.process_id());
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_know_each_other_by_their_doors() {
        let cluster = Cluster::new(&Setup::new("/nonexistent"), 3).unwrap();
        let door = |number| cluster.network().door(number);
        let seeds = format!("1@{},2@{},3@{}", door(1), door(2), door(3));
        assert_eq!(cluster.seeds(), seeds);
        let addresses = cluster.addresses();
        assert_eq!(addresses.len(), 3);
        assert_eq!(cluster.number_at(addresses[1]), Some(2));
        assert_eq!(cluster.number_at(door(1)), None);
    }
}
