//! The calls of the contract. Each file holds a group of handlers; this one holds what they share.

mod archives;
mod containers;
mod lifecycle;
pub mod service;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tonic::Status;

use crate::container::{Container, Forker, ReadyRoot};
use crate::contract::FailureReason;
use crate::deferred::Deferred;
use crate::failure::{Failure, Result};

/// The version of the contract this agent speaks.
pub const PROTOCOL: u32 = 1;

const MAX_ID: usize = 128;
/// The host may ask for what needs an identity together with the identity.
const PERSONALIZED_WITHIN: Duration = Duration::from_secs(1);

/// All the agent knows. Survives the connections of its host.
pub struct Agent {
    forker: Forker,
    deferred: Deferred,
    ready_root: ReadyRoot,
    personalized: watch::Sender<bool>,
    started_boottime_ns: u64,
    /// `None` while one is being made or deleted.
    containers: Mutex<BTreeMap<String, Option<Arc<Container>>>>,
}

impl Agent {
    pub fn new(started_boottime_ns: u64) -> Result<Self> {
        Ok(Self {
            forker: Forker::new()?,
            deferred: Deferred::default(),
            ready_root: ReadyRoot::default(),
            personalized: watch::Sender::new(false),
            started_boottime_ns,
            containers: Mutex::new(BTreeMap::new()),
        })
    }

    /// Prepares for the first container while nothing else is to do.
    pub async fn prepare_when_idle(&self) {
        self.deferred.do_when_idle().await;
    }

    fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.lock()
            .get(id)
            .cloned()
            .flatten()
            .ok_or_else(|| no_such_container(id))
    }

    async fn require_personalized(&self) -> Result<()> {
        let mut personalized = self.personalized.subscribe();
        let wait = personalized.wait_for(|personalized| *personalized);
        match tokio::time::timeout(PERSONALIZED_WITHIN, wait).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Failure::new(
                FailureReason::NotPersonalized,
                "this guest has not been personalized",
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<Container>>>> {
        self.containers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn no_such_container(id: &str) -> Failure {
    Failure::new(FailureReason::NoSuchContainer, format!("no container {id}"))
}

/// Ids of containers and processes, names of volumes, tags of shares.
pub fn valid_id(id: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    id.len() <= MAX_ID && id.bytes().all(inner) && id.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn check_id(id: &str) -> Result<()> {
    if valid_id(id) {
        Ok(())
    } else {
        Err(Failure::invalid(format!("{id:?} is no id")))
    }
}

/// Runs to its end even when the host goes away in the middle: nothing may be left half done.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T, Status> {
    match tokio::spawn(work).await {
        Ok(result) => result.map_err(Status::from),
        Err(_) => Err(Status::internal("the agent is shutting down")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_ids_from_paths() {
        for id in ["a", "A-1_b.c", "0"] {
            assert!(valid_id(id), "{id}");
        }
        for id in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\n", &"a".repeat(129)] {
            assert!(!valid_id(id), "{id:?}");
        }
    }
}
