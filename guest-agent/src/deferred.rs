//! What the first container needs and booting does not. It is done while the agent has nothing else to do, between its
//! being ready and the host's first requests; what is left then is done by the first container itself.

use std::sync::Mutex;

use crate::device_filter::LoadedFilter;
use crate::failure::Result;
use crate::{boot, cgroup};

/// In order. Each keeps the agent from answering for 10 ms at most.
const STEPS: [fn(&mut Done) -> Result<()>; 3] = [
    |_| cgroup::prepare(),
    |done| {
        done.filter = Some(LoadedFilter::load(&[])?);
        Ok(())
    },
    |_| boot::bring_up_loopback(),
];

#[derive(Default)]
pub struct Deferred {
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    steps: usize,
    filter: Option<LoadedFilter>,
}

impl Deferred {
    /// Does the steps one by one, letting everything else go first.
    pub async fn do_when_idle(&self) {
        while self.do_one().is_ok_and(|more| more) {
            tokio::task::yield_now().await;
        }
    }

    /// Does what is left. The device filter it gives is that of a container without devices of its own.
    pub fn finish(&self) -> Result<LoadedFilter> {
        while self.do_one()? {}
        let done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.filter.clone().map_or_else(|| LoadedFilter::load(&[]), Ok)
    }

    /// False when there was nothing left. A step that failed is tried again.
    fn do_one(&self) -> Result<bool> {
        let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(step) = STEPS.get(done.steps) else {
            return Ok(false);
        };
        step(&mut done)?;
        done.steps += 1;
        Ok(true)
    }
}
