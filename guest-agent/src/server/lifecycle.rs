//! The guest itself: who it is, and its end.

use std::sync::Arc;

use rustix::mount::UnmountFlags;

use super::{Agent, PROTOCOL};
use crate::container::blocking;
use crate::contract::{ConfigureNetworkRequest, FailureReason, HelloResponse, PersonalizeRequest};
use crate::failure::{Doing, Failure, Result};
use crate::{network, personalize};

impl Agent {
    pub(super) fn hello(&self, protocol: u32) -> Result<HelloResponse> {
        if protocol != PROTOCOL {
            return Err(Failure::invalid(format!(
                "this agent speaks protocol {PROTOCOL}, not {protocol}"
            )));
        }
        let personalized = *self.personalized.borrow();
        // Reading it makes it, from a random generator that a clone still shares with its template until then.
        let boot_id = if personalized { read_boot_id()? } else { String::new() };
        Ok(HelloResponse {
            protocol: PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
            boot_id,
            personalized,
            agent_start_boottime_ns: self.started_boottime_ns,
        })
    }

    pub(super) fn personalize(&self, request: &PersonalizeRequest) -> Result<i64> {
        let realtime_ns = personalize::personalize(request)?;
        self.personalized.send_replace(true);
        Ok(realtime_ns)
    }

    /// Only a guest of its own may appear on a network.
    pub(super) async fn configure_network(self: Arc<Self>, request: ConfigureNetworkRequest) -> Result<()> {
        self.require_personalized().await?;
        blocking(move || network::configure(&request)).await
    }

    pub(super) fn prepare_template(&self) -> Result<()> {
        if !self.lock().is_empty() || self.ready_root.is_there() {
            return Err(Failure::new(
                FailureReason::WrongState,
                "a guest with containers can be nobody's template",
            ));
        }
        self.deferred.finish()?;
        self.personalized.send_replace(false);
        Ok(())
    }

    /// Deletes every container, which unmounts and syncs it, then syncs the rest.
    pub(super) async fn shut_down(self: Arc<Self>) -> Result<()> {
        let ids = self.lock().keys().cloned().collect::<Vec<_>>();
        let mut first_failure = None;
        for id in ids {
            if let Err(failure) = Arc::clone(&self).delete(id).await {
                first_failure.get_or_insert(failure);
            }
        }
        blocking(|| {
            unmount_shares();
            rustix::fs::sync();
            Ok(())
        })
        .await?;
        first_failure.map_or(Ok(()), Err)
    }
}

fn read_boot_id() -> Result<String> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").doing(|| "reading boot_id".into())?;
    Ok(boot_id.trim_end().to_owned())
}

fn unmount_shares() {
    let shares = std::fs::read_dir(std::path::Path::new(crate::boot::STATE_DIR).join("shares"));
    for share in shares.into_iter().flatten().flatten() {
        let _ = rustix::mount::unmount(share.path(), UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(share.path());
    }
}
