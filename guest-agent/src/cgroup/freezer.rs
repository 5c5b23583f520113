//! Standing still and going on.

use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;

use super::Cgroup;
use crate::contract::FailureReason;
use crate::failure::{Doing, Failure, Result};
use crate::watch::watch;

/// A process that waits for a disk or a share may not stop before that answers.
const FREEZES_WITHIN: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Returns when every process stands still. Undone when one of them does not in time.
    pub async fn freeze(&self) -> Result<()> {
        let events = rustix::fs::openat(
            &self.directory,
            "cgroup.events",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .doing(|| "opening cgroup.events".into())?;
        let events = watch(events, Interest::PRIORITY).doing(|| "watching cgroup.events".into())?;
        self.write("cgroup.freeze", "1")?;
        let frozen = tokio::time::timeout(FREEZES_WITHIN, async {
            while !self.is_frozen()? {
                // The kernel marks the file each time a value in it has changed.
                let mut changed = events
                    .ready(Interest::PRIORITY)
                    .await
                    .doing(|| "watching cgroup.events".into())?;
                changed.clear_ready();
            }
            Ok(())
        })
        .await;
        frozen.unwrap_or_else(|_| {
            self.thaw()?;
            let message = format!("not every process stopped within {} s", FREEZES_WITHIN.as_secs());
            Err(Failure::new(FailureReason::WrongState, message))
        })
    }

    pub fn thaw(&self) -> Result<()> {
        self.write("cgroup.freeze", "0")
    }

    fn is_frozen(&self) -> Result<bool> {
        Ok(self.read("cgroup.events")?.lines().any(|line| line == "frozen 1"))
    }
}
