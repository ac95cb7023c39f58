//! Watches over work that waits for brokers: shows its progress, and tells the user when a broker is away and when it
//! is back. Without that a command whose broker was stopped only looks stuck.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use highwater_client::{Client, ClientBuilder, Error};

use crate::context::{Context, PATIENCE};
use crate::explain::without_error_number;
use crate::progress::Progress;

/// Between two looks at the work.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long a broker has to answer when it is asked whether it is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What the work looks like at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// Grows with all that is done.
    pub(crate) done: u64,
    /// What brokers owe an answer to; none when there is nothing to wait for but further input, or when nobody can
    /// tell, as of records that others have yet to produce.
    pub(crate) owed: Option<String>,
    /// Shown beside the progress bar.
    pub(crate) message: String,
}

/// Watches the work that `look` looks at; never ends by itself.
pub(crate) async fn keep(
    context: &Context,
    topic: &str,
    progress: &Progress,
    look: impl Fn() -> Look,
) -> Infallible {
    let mut broker = Broker {
        addresses: context.brokers.join(","),
        builder: context.client(),
        topic: topic.to_owned(),
        client: None,
    };
    let mut judge = Judge::new(Instant::now());
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    loop {
        interval.tick().await;
        let seen = look();
        progress.draw(seen.message.clone());
        let mut news = judge.look(&seen, Instant::now());
        if judge.wants_to_know(Instant::now()) {
            let answer = broker.ask().await;
            // What was done while the broker was asked is the better answer.
            news = judge.hear(&look(), answer, &broker.addresses, Instant::now());
        }
        if let Some(news) = news {
            progress.aside(|| context.note(&news));
        }
    }
}

/// The broker that is asked, over connections of its own: those of the work may be what is stuck.
struct Broker {
    addresses: String,
    builder: ClientBuilder,
    topic: String,
    client: Option<Client>,
}

impl Broker {
    /// Whether any broker answers, or else why not.
    async fn ask(&mut self) -> Result<(), String> {
        let known = match self.client.take() {
            Some(client) => {
                let topics = std::slice::from_ref(&self.topic);
                client.admin().metadata(topics).await.map(|_| client)
            }
            None => self.connect().await,
        };
        // An old connection says less about what is wrong than a new one.
        let answered = match known {
            Err(_) => self.connect().await,
            answered => answered,
        };
        match answered {
            Ok(client) => {
                self.client = Some(client);
                Ok(())
            }
            Err(Error::Connect { problem, .. }) => Err(without_error_number(&problem).to_owned()),
            Err(Error::Tls { problem, .. }) => Err(problem.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn connect(&self) -> Result<Client, Error> {
        self.builder
            .clone()
            .connect_timeout(ANSWER_TIMEOUT)
            .request_timeout(ANSWER_TIMEOUT)
            .connect(&self.addresses)
            .await
    }
}

/// Judges from looks and answers what the user should hear.
#[derive(Debug)]
struct Judge {
    done: u64,
    is_owed: bool,
    /// When all was well last: something was done, nothing was owed yet, or a broker answered.
    well_at: Instant,
    asked_at: Option<Instant>,
    /// Since when it is not, where the user was told.
    told_since: Option<Instant>,
}

impl Judge {
    fn new(now: Instant) -> Self {
        Self {
            done: 0,
            is_owed: false,
            well_at: now,
            asked_at: None,
            told_since: None,
        }
    }

    /// Takes a look; what was done since the last one is worth telling after the user heard of an absence.
    fn look(&mut self, seen: &Look, now: Instant) -> Option<String> {
        let was_owed = std::mem::replace(&mut self.is_owed, seen.owed.is_some());
        if seen.done != self.done {
            self.done = seen.done;
            return self.all_is_well(now);
        }
        if self.is_owed && !was_owed {
            self.well_at = now;
        }
        None
    }

    /// Whether it is time to ask a broker: all was well a while ago, and none was asked since.
    fn wants_to_know(&self, now: Instant) -> bool {
        let last = self.asked_at.unwrap_or(self.well_at).max(self.well_at);
        now.saturating_duration_since(last) >= PATIENCE
    }

    /// Hears what came of asking.
    fn hear(
        &mut self,
        seen: &Look,
        answer: Result<(), String>,
        addresses: &str,
        now: Instant,
    ) -> Option<String> {
        let news = self.look(seen, now);
        if !self.wants_to_know(now) {
            return news;
        }
        self.asked_at = Some(now);
        let with = match &seen.owed {
            Some(owed) => format!("waiting with {owed}"),
            None => "waiting".into(),
        };
        let news = match answer {
            Ok(()) if !self.is_owed => return self.all_is_well(now),
            _ if self.told_since.is_some() => return None,
            Ok(()) => {
                let seconds = now.saturating_duration_since(self.well_at).as_secs();
                format!(
                    "{addresses} answers, but did not acknowledge anything for {seconds} s; {with}"
                )
            }
            Err(problem) => format!("no broker answers at {addresses} ({problem}); {with}"),
        };
        self.told_since = Some(self.well_at);
        Some(news)
    }

    fn all_is_well(&mut self, now: Instant) -> Option<String> {
        self.well_at = now;
        let since = self.told_since.take()?;
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        Some(format!("going on after {seconds:.1} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(done: u64, owed: Option<&str>) -> Look {
        Look {
            done,
            owed: owed.map(str::to_owned),
            message: String::new(),
        }
    }

    fn refused() -> Result<(), String> {
        Err("Connection refused".into())
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn an_absence_is_told_once_and_so_is_its_end() {
        let start = Instant::now();
        let mut judge = Judge::new(start);
        let owed = look(5, Some("3 records"));
        assert_eq!(judge.look(&owed, start), None);
        assert_eq!(judge.look(&owed, after(start, 1)), None);
        assert!(!judge.wants_to_know(after(start, 1)));
        assert!(judge.wants_to_know(after(start, 2)));
        assert_eq!(
            judge.hear(&owed, refused(), "h:1", after(start, 2)),
            Some("no broker answers at h:1 (Connection refused); waiting with 3 records".into())
        );
        assert!(!judge.wants_to_know(after(start, 3)));
        assert!(judge.wants_to_know(after(start, 4)));
        assert_eq!(judge.hear(&owed, refused(), "h:1", after(start, 4)), None);
        // It is back, but what is owed has yet to come.
        assert_eq!(judge.hear(&owed, Ok(()), "h:1", after(start, 6)), None);
        assert_eq!(
            judge.look(&look(6, Some("2 records")), after(start, 7)),
            Some("going on after 7.0 s".into())
        );
        assert_eq!(judge.look(&look(8, None), after(start, 8)), None);
    }

    #[test]
    fn where_nothing_is_owed_an_answer_ends_the_absence() {
        let start = Instant::now();
        let mut judge = Judge::new(start);
        let quiet = look(0, None);
        assert_eq!(judge.hear(&quiet, Ok(()), "h:1", after(start, 2)), None);
        assert_eq!(
            judge.hear(&quiet, refused(), "h:1", after(start, 4)),
            Some("no broker answers at h:1 (Connection refused); waiting".into())
        );
        assert_eq!(
            judge.hear(&quiet, Ok(()), "h:1", after(start, 6)),
            Some("going on after 4.0 s".into())
        );
    }

    #[test]
    fn the_clock_starts_when_something_is_owed() {
        let start = Instant::now();
        let mut judge = Judge::new(start);
        assert_eq!(judge.look(&look(0, None), after(start, 50)), None);
        assert_eq!(
            judge.look(&look(0, Some("1 record")), after(start, 60)),
            None
        );
        assert!(!judge.wants_to_know(after(start, 61)));
        assert!(judge.wants_to_know(after(start, 62)));
    }

    #[test]
    fn a_broker_that_answers_and_acknowledges_nothing_is_told_of() {
        let start = Instant::now();
        let mut judge = Judge::new(start);
        let owed = look(0, Some("1 record"));
        assert_eq!(judge.look(&owed, start), None);
        assert_eq!(
            judge.hear(&owed, Ok(()), "h:1", after(start, 2)),
            Some(
                "h:1 answers, but did not acknowledge anything for 2 s; waiting with 1 record"
                    .into()
            )
        );
        assert_eq!(judge.hear(&owed, Ok(()), "h:1", after(start, 4)), None);
    }

    #[test]
    fn what_was_done_meanwhile_is_better_than_the_answer() {
        let start = Instant::now();
        let mut judge = Judge::new(start);
        let seen = look(1, None);
        assert_eq!(judge.hear(&seen, refused(), "h:1", after(start, 2)), None);
        assert!(!judge.wants_to_know(after(start, 3)));
    }
}
