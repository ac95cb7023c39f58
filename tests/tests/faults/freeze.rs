//! A process that stands still: SIGSTOP.

use highwater_proto::Reason;
use highwater_tests::history::SendOutcome;
use rustix::process::Signal;

use crate::scene::{Scene, setup};

#[test]
fn a_frozen_broker_times_requests_out_and_then_goes_on() {
    let scene = Scene::new(setup().tiny());
    let places = scene.topic("events", 3, &[("segment.bytes", "65536")]);
    let load = scene.load(places).everything();
    load.wait_for_acks(300).unwrap();
    scene.broker.signal(Signal::STOP).unwrap();
    load.wait_for("a request that timed out", |ledger| {
        ledger.sends.iter().any(|send| {
            matches!(&send.outcome, Some((_, SendOutcome::Unknown { reason }))
                if reason == Reason::RequestTimedOut.name())
        })
    })
    .unwrap();
    scene.broker.signal(Signal::CONT).unwrap();
    load.wait_for_acks(300).unwrap();
    let (summary, _) = Scene::judge(load, &[]);
    assert!(summary.unknown > 0, "{summary}");
}
