//! Asking the coordinator of a consumer group, wherever it is.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use highwater_proto::{ApiError, BrokerId, Reason};
use tonic::Code;
use tonic::transport::Channel;

use crate::Error;
use crate::cluster::{Cluster, Repeat};

/// The fact of a refusal that names the broker to ask.
const HINT: &str = "coordinator_broker_id";
/// How many hints in a row are followed at once: brokers that name each other are waited for.
const HINTS_AT_ONCE: u32 = 2;

/// The addresses of brokers that answered for groups.
#[derive(Debug, Default)]
pub(crate) struct Coordinators(Mutex<HashMap<String, String>>);

impl Coordinators {
    fn get(&self, group: &str) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(group)
            .cloned()
    }

    fn set(&self, group: &str, address: Option<&str>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match address {
            Some(address) if known.get(group).is_some_and(|known| known == address) => {}
            Some(address) => drop(known.insert(group.to_owned(), address.to_owned())),
            None => drop(known.remove(group)),
        }
    }
}

impl Cluster {
    /// Makes a request to the broker that coordinates `group`, following hints and trying again where that is safe, until `time`
    /// has passed.
    pub(crate) async fn ask_coordinator<T, F>(
        &self,
        group: &str,
        repeat: Repeat,
        time: Duration,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let give_up_at = Instant::now() + time;
        let backoff = self.settings.backoff.within(time);
        let mut next = self.coordinators.get(group);
        let mut hints = 0;
        for failures in 1.. {
            let address = match next.take() {
                Some(address) => address,
                None => self.some_address(failures)?,
            };
            let error = match call(self.channel(&address)?).await {
                Ok(answer) => {
                    self.coordinators.set(group, Some(&address));
                    return Ok(answer);
                }
                Err(error) => error,
            };
            self.coordinators.set(group, None);
            let may_repeat = error.is_definite() || repeat == Repeat::Safe;
            if !is_passing(&error) || !may_repeat {
                return Err(Error::Api(error));
            }
            next = self
                .hinted(&error)
                .await
                .filter(|hinted| *hinted != address);
            if next.is_some() && hints < HINTS_AT_ONCE {
                hints += 1;
                continue;
            }
            hints = 0;
            let wait = backoff.wait_after(&error, failures, rand::random());
            if Instant::now() + wait > give_up_at {
                return Err(Error::Api(error));
            }
            tokio::time::sleep(wait).await;
        }
        Err(Error::Closed)
    }

    /// One of the brokers, another one after each failure.
    fn some_address(&self, failures: u32) -> Result<String, Error> {
        let addresses = self.addresses();
        let place = failures as usize % addresses.len().max(1);
        let address = addresses.into_iter().nth(place);
        address.ok_or_else(|| Error::config("addresses", "at least one is needed"))
    }

    /// The address of the broker that a refusal names.
    async fn hinted(&self, error: &ApiError) -> Option<String> {
        if error.reason != Reason::NotCoordinator {
            return None;
        }
        let broker = BrokerId(error.metadata.get(HINT)?.parse().ok()?);
        if let Some(address) = self.metadata().address(broker) {
            return Some(address.to_owned());
        }
        let metadata = self.refresh(&[]).await.ok()?;
        metadata.address(broker).map(ToOwned::to_owned)
    }
}

/// Whether the failure passes by itself. A member that must send a heartbeat first, or a group that is not there, does not.
fn is_passing(error: &ApiError) -> bool {
    let passes = matches!(
        error.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
    );
    passes && error.is_retriable()
}
