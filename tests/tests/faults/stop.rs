//! Orderly stops, and who may use a data directory.

use crate::scene::{Scene, setup};

#[test]
fn a_stop_under_load_loses_nothing() {
    let mut scene = Scene::new(setup().tiny());
    let places = scene.topic("events", 4, &[("segment.bytes", "65536")]);
    let load = scene.load(places).everything();
    for _ in 0..3 {
        load.wait_for_acks(300).unwrap();
        scene.broker.terminate().unwrap();
        scene.broker.start().unwrap();
    }
    load.wait_for_acks(300).unwrap();
    let (summary, _) = Scene::judge(load, &[]);
    assert!(summary.acked >= 1_200, "{summary}");
}

#[test]
fn a_second_broker_is_kept_out_of_the_directory() {
    let scene = Scene::new(setup());
    let data_dir = scene.broker.data_dir().display().to_string();
    let places = scene.topic("events", 1, &[]);
    let load = scene.load(places).everything();
    load.wait_for_acks(20).unwrap();
    let arguments = [
        "--data-dir",
        &data_dir,
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
    ];
    let second = scene.broker.run(&arguments).unwrap();
    assert!(!second.status.success());
    assert_eq!(second.stdout, "");
    let said = second.stderr.to_lowercase();
    assert!(said.contains(&data_dir.to_lowercase()), "{said}");
    assert!(
        said.contains("another process") || said.contains("in use"),
        "{said}"
    );
    // The first one has not noticed.
    load.wait_for_acks(20).unwrap();
    Scene::judge(load, &[]);
}

#[test]
fn a_broker_whose_port_is_taken_says_so() {
    let scene = Scene::new(setup());
    let folder = tempfile::tempdir().unwrap();
    let address = scene.broker.address().to_string();
    let arguments = [
        "--data-dir",
        folder.path().to_str().unwrap(),
        "--listen",
        &address,
        "--peer-listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
    ];
    let second = scene.broker.run(&arguments).unwrap();
    assert!(!second.status.success());
    assert!(second.stderr.contains(&address), "{}", second.stderr);
}
