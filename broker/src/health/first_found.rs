//! Since when the broker finds what it finds. Pure.

use std::collections::BTreeMap;

use highwater_proto::v1::HealthFinding;
use highwater_storage::LogId;

/// Which log a finding is about, or the data directory; and its name.
type Subject = (Option<LogId>, String);

/// When each thing was first found that is found now, in milliseconds since the Unix epoch.
#[derive(Debug, Default)]
pub(super) struct FirstFound(BTreeMap<Subject, i64>);

impl FirstFound {
    /// Dates something that is found.
    pub(super) fn date(&mut self, log: Option<LogId>, finding: &mut HealthFinding, now_ms: i64) {
        let subject = (log, finding.reason.clone());
        finding.since_ms = Some(*self.0.entry(subject).or_insert(now_ms));
    }

    /// Dates all that is found. What is found no longer is forgotten: it is dated anew if it comes back.
    pub(super) fn date_all<'a>(
        &mut self,
        found: impl IntoIterator<Item = &'a mut (Option<LogId>, HealthFinding)>,
        now_ms: i64,
    ) {
        let before = std::mem::take(&mut self.0);
        for (log, finding) in found {
            let subject = (*log, finding.reason.clone());
            let since_ms = before.get(&subject).copied().unwrap_or(now_ms);
            finding.since_ms = Some(since_ms);
            self.0.insert(subject, since_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_proto::v1::HealthState;

    use super::*;
    use crate::health::finding;

    fn of(log: Option<u64>, reason: &str) -> (Option<LogId>, HealthFinding) {
        let finding = finding(HealthState::Critical, reason, String::new());
        (log.map(LogId), finding)
    }

    #[test]
    fn what_goes_on_keeps_its_date_and_what_comes_back_gets_another() {
        let mut first_found = FirstFound::default();
        let mut look = |now_ms, found: &[(Option<u64>, &str)]| {
            let mut found: Vec<_> = found.iter().map(|(log, reason)| of(*log, reason)).collect();
            first_found.date_all(&mut found, now_ms);
            let since = found.iter().map(|(_, finding)| finding.since_ms.unwrap());
            since.collect::<Vec<_>>()
        };
        let (full, failed) = ((None, "DISK_FULL"), (Some(1), "LOG_FAILED"));
        assert_eq!(look(10, &[full]), [10]);
        assert_eq!(
            look(20, &[full, failed, (Some(2), "LOG_FAILED")]),
            [10, 20, 20]
        );
        assert_eq!(look(30, &[failed]), [20]);
        assert_eq!(look(40, &[failed, full]), [20, 40]);
        assert_eq!(look(50, &[(Some(1), "LOG_DAMAGED")]), [50]);
    }

    #[test]
    fn what_is_found_alone_has_the_same_date() {
        let mut first_found = FirstFound::default();
        let (log, mut finding) = of(Some(1), "LOG_FAILED");
        first_found.date(log, &mut finding, 10);
        assert_eq!(finding.since_ms, Some(10));
        let mut all = [of(Some(1), "LOG_FAILED")];
        first_found.date_all(&mut all, 20);
        assert_eq!(all[0].1.since_ms, Some(10));
        first_found.date(log, &mut finding, 30);
        assert_eq!(finding.since_ms, Some(10));
    }
}
