use std::ffi::OsString;
use std::path::Path;

use super::*;

/// Layers with a file of this text.
fn with_file(text: &str) -> (tempfile::TempDir, Layers) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.toml");
    std::fs::write(&path, text).unwrap();
    (folder, Layers::new().file(path))
}

fn load(text: &str) -> Result<Effective, Error> {
    with_file(text).1.load()
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[test]
fn defaults_are_valid_and_survive_their_own_toml() {
    let defaults = Layers::new().load().unwrap();
    assert_eq!(defaults.config(), &Config::default());
    let again = load(&defaults.to_toml()).unwrap();
    assert_eq!(again.config(), &Config::default());
}

#[test]
fn each_layer_wins_over_those_before_it() {
    let (_folder, file) = with_file(
        "[fetch]\nmax_partitions = 7\nmax_bytes = 1000000\npush_bytes = 1\ndefault_partition_bytes = 1\n",
    );
    let effective = file
        .environment(variables(&[
            ("HIGHWATER_FETCH_MAX_BYTES", "2_000_000"),
            ("HIGHWATER_FETCH_PUSH_BYTES", "2"),
        ]))
        .flag("--set", "fetch.push_bytes", "3")
        .flag("--data-dir", "data_dir", "/tmp/x")
        .load()
        .unwrap();
    let mut expected = Config::default();
    expected.fetch.max_partitions = 7;
    expected.fetch.default_partition_bytes = 1;
    expected.fetch.max_bytes = 2_000_000;
    expected.fetch.push_bytes = 3;
    expected.data_dir = PathBuf::from("/tmp/x");
    assert_eq!(effective.config(), &expected);

    let source = |key| effective.source(key);
    assert_eq!(source("fetch.read_threads"), Source::Default);
    assert!(matches!(
        source("fetch.max_partitions"),
        Source::File { line: 2, .. }
    ));
    assert_eq!(
        source("fetch.max_bytes"),
        Source::Environment("HIGHWATER_FETCH_MAX_BYTES".to_owned())
    );
    assert_eq!(source("fetch.push_bytes"), Source::Flag("--set".to_owned()));
}

#[test]
fn printed_configuration_can_be_fed_back() {
    let first = Layers::new()
        .flag("--set", "rack", "a \"quoted\" # rack")
        .flag("--set", "server.worker_threads", "3")
        .load()
        .unwrap();
    let text = first.to_toml();
    assert_eq!(load(&text).unwrap().config(), first.config());
    assert!(text.contains("worker_threads = 3  # --set"), "{text}");
}

#[test]
fn variables_of_keys_are_distinct_and_none_looks_like_one_of_a_service() {
    let mut names: Vec<_> = keys::all().map(keys::Key::variable).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    for name in &names {
        assert!(!layers::is_of_a_service(name), "{name}");
        assert!(!name.starts_with("HIGHWATER_CONFIG"), "{name}");
    }
}

#[test]
fn variables_that_others_set_are_left_alone() {
    let effective = Layers::new()
        .environment(variables(&[
            ("HIGHWATER_SERVICE_HOST", "10.0.0.1"),
            ("HIGHWATER_PORT_7410_TCP", "tcp://10.0.0.1:7410"),
            ("HIGHWATER_BROKERS", "b:1"),
            ("HIGHWATER_LOG", "debug"),
            ("HOME", "/"),
        ]))
        .load()
        .unwrap();
    assert_eq!(effective.config().log.level, "debug");
    assert_eq!(effective.set_count(), 1);
}

#[test]
fn the_precise_variable_of_a_key_wins() {
    let effective = Layers::new()
        .environment(variables(&[
            ("HIGHWATER_LOG", "debug"),
            ("HIGHWATER_LOG_LEVEL", "warn"),
        ]))
        .load()
        .unwrap();
    assert_eq!(effective.config().log.level, "warn");
}

#[test]
fn a_value_that_rests_on_a_refused_one_is_not_blamed() {
    let error = load("[requests]\nmemory_bytes = \"1 TB\"\n[fetch]\nmax_bytes = 500000000\n");
    let error = error.unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    assert!(
        error.to_string().contains("requests.memory_bytes"),
        "{error}"
    );
}

#[test]
fn validate_names_every_key_that_is_wrong() {
    type Spoil = fn(&mut Config);
    let cases: [(&str, Spoil); 10] = [
        ("data_dir", |c| c.data_dir = PathBuf::new()),
        ("broker_id", |c| c.broker_id = 0),
        ("fetch.max_wait_ms", |c| c.fetch.max_wait_ms = u32::MAX),
        ("produce.max_timeout_ms", |c| {
            c.produce.max_timeout_ms = u32::MAX;
        }),
        ("server.client.address", |c| {
            c.server.client.address = "localhost".to_owned();
        }),
        ("server.client.advertised", |c| {
            c.server.client.advertised = "nowhere".to_owned();
        }),
        ("server.client.named", |c| {
            c.server.client.named = "host=localhost".to_owned();
        }),
        ("offsets.max_items", |c| c.offsets.max_items = 0),
        ("storage.journal_file_bytes", |c| {
            c.storage.journal_file_bytes = 16_385;
        }),
        ("log.level", |c| c.log.level = "=x=".to_owned()),
    ];
    let mut all = Config::default();
    for (key, spoil) in cases {
        let mut config = Config::default();
        spoil(&mut config);
        spoil(&mut all);
        let error = config.validate().unwrap_err();
        assert_eq!(error.problems().len(), 1, "{key}: {error}");
        assert_eq!(error.problems()[0].key(), Some(key), "{error}");
    }
    let error = all.validate().unwrap_err();
    assert_eq!(error.problems().len(), cases.len(), "{error}");
}

#[test]
fn addresses_that_others_can_reach_need_the_insecure_flag() {
    let mut config = Config::default();
    config.server.client.address = "0.0.0.0:7410".to_owned();
    let error = config.validate().unwrap_err().to_string();
    assert!(
        error.contains("server.client.address") && error.contains("--insecure"),
        "{error}"
    );
    config.insecure = true;
    config.validate().unwrap();

    let mut config = Config::default();
    config.server.client.named = "a=127.0.0.1:0,b=0.0.0.0:9410@localhost:9410".to_owned();
    let error = config.validate().unwrap_err().to_string();
    assert!(
        error.contains("server.client.named") && error.contains("0.0.0.0:9410"),
        "{error}"
    );
    config.insecure = true;
    config.validate().unwrap();
}

#[test]
fn every_key_says_what_it_is_for_and_what_it_allows() {
    let mut check = Check::default();
    Config::default().check(&mut check);
    for key in keys::all() {
        assert!(key.documentation.len() > 20, "{} needs a reason", key.name);
        let needs_range = matches!(key.kind, setting::Kind::Number { .. });
        assert!(
            !needs_range || !check.allowed(key.name).is_empty(),
            "{} is not checked",
            key.name
        );
    }
}

#[test]
fn the_sample_for_a_server_is_valid() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/systemd/broker.toml");
    Layers::new().file(sample).load().unwrap();
}

/// Run with `HIGHWATER_UPDATE_DOCS=1` to write the page anew.
#[test]
fn the_page_about_the_configuration_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("HIGHWATER_UPDATE_DOCS").is_some() {
        std::fs::write(&page, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/configuration.md is stale: run the test with HIGHWATER_UPDATE_DOCS=1"
    );
}
