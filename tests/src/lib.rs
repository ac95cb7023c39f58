//! Harness of the whole-system tests of Highwater: real processes, faults, checkers.
//!
//! A test starts a broker as a process of its own ([`process`]), puts load on it ([`workload`]), does something terrible
//! to it, and lets the checker decide whether the clients saw anything that must not be:
//!
//! Several brokers are a [`cluster`], whose brokers reach each other through a [`network`] that a test can cut.
//!
//! - [`stamp`]: records that say themselves who sent them, in which order and where to.
//! - [`history`]: what every client asked and was told, in real-time order.
//! - [`checker`]: the promises (docs: `Rule`), pure.
//! - [`topic_model`]: the same for the state of topics.
//! - [`group_diary`]: the same for who reads what in a consumer group.
//!
//! [`sim`] is another thing: a whole cluster in one thread, repeated by its seed.

pub mod checker;
pub mod cluster;
pub mod data_files;
pub mod group_diary;
pub mod history;
pub mod network;
pub mod process;
pub mod sim;
pub mod stamp;
pub mod topic_model;
pub mod workload;
