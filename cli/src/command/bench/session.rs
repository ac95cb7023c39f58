//! A benchmark from its target to its clean-up, also when it fails or is interrupted.

use serde::Serialize;

use super::report::Report;
use super::target::{self, Target};
use super::topic::{self, Topic};
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupts::Interrupts;

/// Measures a broker with a topic; afterwards the topic is deleted and the broker stopped, where they were made for it.
pub(crate) async fn with_topic<T>(
    target: &target::Options,
    topic: &topic::Options,
    context: &Context,
    measure: impl AsyncFnOnce(&Target, &Topic) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // One listener for all of it, so that no signal comes between two.
    let mut interrupts = Interrupts::listen()?;
    let target = unless_interrupted(&mut interrupts, context, Target::new(target, context)).await?;
    let measured = match Topic::new(&target.client, topic).await {
        Ok(topic) => {
            let measured =
                unless_interrupted(&mut interrupts, context, measure(&target, &topic)).await;
            let removed = topic.remove(&target.client).await;
            measured.and_then(|measured| removed.map(|()| measured))
        }
        Err(failure) => Err(failure),
    };
    let stopped = target.stop().await;
    measured.and_then(|measured| stopped.map(|()| measured))
}

/// Does it, unless Ctrl-C or SIGTERM comes first.
pub(crate) async fn unless_interrupted<T>(
    interrupts: &mut Interrupts,
    context: &Context,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let status = tokio::select! {
        done = work => return done,
        status = interrupts.next() => status,
    };
    context.end_with(status);
    Err(Failure::new(
        "nothing was measured",
        "the benchmark was interrupted",
    ))
}

/// Prints a report under `title`; fails where records did.
pub(crate) fn answer<P: Serialize>(
    title: &str,
    report: &Report<P>,
    context: &Context,
) -> Result<(), Failure> {
    context.answer(|| format!("{title}\n\n{}", report.text()), || report)?;
    report.check()
}
