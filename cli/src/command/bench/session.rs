//! A benchmark from its target to its clean-up, also when it fails or is interrupted.

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
    let target = unless_interrupted(context, Target::new(target, context)).await?;
    let measured = match Topic::new(&target.client, topic).await {
        Ok(topic) => {
            let measured = unless_interrupted(context, measure(&target, &topic)).await;
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
    context: &Context,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut interrupts = Interrupts::listen()?;
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
