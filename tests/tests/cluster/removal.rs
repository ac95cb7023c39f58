//! Brokers that were removed from the cluster end by themselves, and say what is to be done.

use highwater_client::Admin;
use highwater_tests::cluster::Cluster;
use highwater_tests::workload::PATIENCE;

use crate::scene::{Scene, setup};

/// Exit status of a broker that the cluster has removed.
const REMOVED_STATUS: i32 = 3;

impl Scene {
    fn decommission(&self, admin: &Admin, number: u32) {
        let begun = self.runtime.block_on(admin.decommission_broker(number));
        begun.unwrap();
        self.until_removed(admin, number);
    }

    /// Waits until the cluster has a broker no more.
    pub(crate) fn until_removed(&self, admin: &Admin, number: u32) {
        self.wait_for("the removal of a broker", || {
            let metadata = self.runtime.block_on(admin.linearizable_metadata(&[]));
            let brokers = metadata.ok()?.brokers;
            let is_there = brokers.iter().any(|broker| broker.broker_id == number);
            (!is_there).then_some(())
        });
    }

    /// Waits until the process of a broker has ended because it was removed.
    pub(crate) fn ends_as_removed(&mut self, number: u32) {
        let ended = self.cluster.change(number, |broker| {
            let status = broker.wait_exit(PATIENCE)?;
            Ok((
                status,
                broker.log(),
                broker.data_dir().display().to_string(),
            ))
        });
        let (status, log, data_dir) = ended.unwrap();
        assert_eq!(status.code(), Some(REMOVED_STATUS), "{log}");
        let last_run = log.rsplit("--- start ").next().unwrap();
        let said = format!(
            "error: this broker was removed from the cluster, or its place was taken by another data directory: what \
             {data_dir} holds is of no use any more. Delete it when nobody needs it; to be a broker again, start with an empty \
             data directory"
        );
        assert!(last_run.contains(&said), "{last_run}");
    }
}

#[test]
fn a_broker_that_is_removed_ends_and_does_so_again_when_it_is_started() {
    let mut scene = Scene::around(Cluster::started(&setup(), 4).unwrap());
    let admin = scene.admin();
    scene.decommission(&admin, 4);
    scene.ends_as_removed(4);
    scene.cluster.spawn(4).unwrap();
    scene.ends_as_removed(4);
}

#[test]
fn a_broker_that_was_away_meanwhile_hears_of_its_removal_from_the_others() {
    let mut scene = Scene::around(Cluster::started(&setup(), 5).unwrap());
    let admin = scene.admin();
    scene.cluster.freeze(5).unwrap();
    scene.decommission(&admin, 5);
    scene.cluster.thaw(5).unwrap();
    scene.ends_as_removed(5);

    scene.cluster.kill(4).unwrap();
    scene.decommission(&admin, 4);
    scene.cluster.spawn(4).unwrap();
    scene.ends_as_removed(4);
}
