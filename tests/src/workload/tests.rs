//! The load and the checker together find what is wrong with a broker, and nothing where nothing is.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::model_broker::{Flaw, ModelBroker};
use super::*;
use crate::checker::{Circumstances, Rule, Verdict, check};

/// Puts every kind of client on a model of a broker with one flaw.
fn verdict_on(flaw: Flaw) -> Verdict {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = runtime.block_on(ModelBroker::serve(flaw, 7));
    let places = places(TopicId(Uuid::from_u128(3)), 4);
    let sizes = Sizes {
        max_batch_records: 3,
        max_filler_bytes: 50,
    };
    let load = Load::new(runtime.handle(), vec![address], places, sizes).everything();
    load.wait_for_acks(2_000).unwrap();
    load.wait_for("every reader to get something", |ledger| {
        let readers: BTreeSet<_> = ledger
            .reads
            .iter()
            .filter(|read| matches!(&read.outcome, Some((_, ReadOutcome::Records(page))) if !page.records.is_empty()))
            .map(|read| read.reader)
            .collect();
        readers.len() == ReaderKind::ALL.len()
    })
    .unwrap();
    let history = load.history().clone();
    let finals = load.finish().unwrap();
    check(&history.ledger(), &finals, &Circumstances::default())
}

fn rules(verdict: &Verdict) -> BTreeSet<Rule> {
    verdict.violations.iter().map(|found| found.rule).collect()
}

#[test]
fn a_broker_that_keeps_its_promises_is_not_accused() {
    let verdict = verdict_on(Flaw::None);
    verdict.assert_clean();
    let summary = verdict.summary;
    assert!(summary.acked >= 2_000, "{summary}");
    assert!(summary.unknown_found > 0, "{summary}");
    assert!(summary.unknown_found < summary.unknown, "{summary}");
    assert!(summary.refused > 0, "{summary}");
    assert!(summary.records_read > summary.acked, "{summary}");
}

#[test]
fn a_broker_that_loses_acks_is_found_out() {
    let found = rules(&verdict_on(Flaw::LosesAcks));
    assert!(found.contains(&Rule::AckedIsKept), "{found:?}");
}

#[test]
fn a_broker_that_stores_retries_again_is_found_out() {
    let found = rules(&verdict_on(Flaw::ForgetsProducers));
    assert!(found.contains(&Rule::StoredOnce), "{found:?}");
}

#[test]
fn a_broker_that_stores_what_it_refuses_is_found_out() {
    let found = rules(&verdict_on(Flaw::RefusesWhatItStored));
    assert!(found.contains(&Rule::RefusedIsAbsent), "{found:?}");
}

#[test]
fn a_broker_that_skips_records_is_found_out() {
    let found = rules(&verdict_on(Flaw::SkipsBatches));
    assert!(found.contains(&Rule::Contiguous), "{found:?}");
}

#[test]
fn a_broker_whose_bits_rot_is_found_out() {
    let found = rules(&verdict_on(Flaw::RotsBits));
    assert!(found.contains(&Rule::OnlyWhatWasSent), "{found:?}");
}
