//! When and where a process runs: scheduler, I/O priority, CPUs.

use crate::contract::{CpuAffinity, IoPriority, Process, Scheduler};
use crate::failure::{Doing, Failure, Result};
use crate::sys::{self, CpuSet, SchedulerAttributes};

/// sched(7)
const POLICIES: [(&str, u32); 6] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
/// sched_setattr(2)
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
/// ioprio_set(2)
const IO_CLASSES: [(&str, u32); 3] = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
const IO_CLASS_SHIFT: u32 = 13;

/// A request that was checked.
#[derive(Default)]
pub struct Scheduling {
    scheduler: Option<SchedulerAttributes>,
    io_priority: Option<u32>,
    /// Before and after the process joins its cgroup.
    affinity: Option<(Option<CpuSet>, CpuSet)>,
}

impl Scheduling {
    pub fn plan(process: &Process) -> Result<Self> {
        Ok(Self {
            scheduler: process.scheduler.as_ref().map(attributes).transpose()?,
            io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
            affinity: process.exec_cpu_affinity.as_ref().map(affinity).transpose()?,
        })
    }

    pub fn before_cgroup(&self) -> Result<()> {
        match &self.affinity {
            Some((Some(initial), _)) => set_affinity(initial),
            _ => Ok(()),
        }
    }

    pub fn in_cgroup(&self) -> Result<()> {
        match &self.affinity {
            Some((_, last)) => set_affinity(last),
            None => Ok(()),
        }
    }

    /// As root.
    pub fn apply(&self) -> Result<()> {
        if let Some(attributes) = &self.scheduler {
            sys::set_scheduler(attributes).doing(|| "setting the scheduler".into())?;
        }
        if let Some(priority) = self.io_priority {
            sys::set_io_priority(priority).doing(|| "setting the I/O priority".into())?;
        }
        Ok(())
    }
}

fn set_affinity(cpus: &CpuSet) -> Result<()> {
    sys::set_affinity(cpus).doing(|| "setting the CPU affinity".into())
}

fn find<T: Copy>(known: &[(&str, T)], name: &str, what: &str) -> Result<T> {
    let found = known.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| Failure::invalid(format!("no {what} is called {name:?}")))
}

fn attributes(scheduler: &Scheduler) -> Result<SchedulerAttributes> {
    let mut flags = 0;
    for name in &scheduler.flags {
        flags |= find(&FLAGS, name, "flag of a scheduler")?;
    }
    Ok(SchedulerAttributes {
        policy: find(&POLICIES, &scheduler.policy, "scheduler")?,
        flags,
        nice: scheduler.nice,
        priority: u32::try_from(scheduler.priority)
            .map_err(|_| Failure::invalid("a scheduler's priority is not negative"))?,
        runtime_ns: scheduler.runtime_ns,
        deadline_ns: scheduler.deadline_ns,
        period_ns: scheduler.period_ns,
    })
}

fn io_priority(IoPriority { class, priority }: &IoPriority) -> Result<u32> {
    let class = find(&IO_CLASSES, class, "class of I/O")?;
    if !(0..8).contains(priority) {
        return Err(Failure::invalid(format!("an I/O priority is 0 to 7, not {priority}")));
    }
    Ok(class << IO_CLASS_SHIFT | *priority as u32)
}

fn affinity(CpuAffinity { initial, r#final: last }: &CpuAffinity) -> Result<(Option<CpuSet>, CpuSet)> {
    let initial = (!initial.is_empty()).then(|| cpus(initial)).transpose()?;
    let last = if last.is_empty() { CpuSet::all() } else { cpus(last)? };
    Ok((initial, last))
}

/// A list as in cpuset(7): "0-2,7".
fn cpus(list: &str) -> Result<CpuSet> {
    let invalid = || Failure::invalid(format!("{list:?} is no list of CPUs"));
    let mut set = CpuSet::default();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| invalid());
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= CpuSet::MAX {
            return Err(invalid());
        }
        (first..=last).for_each(|cpu| set.add(cpu));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_of_cpus() {
        let mut expected = CpuSet::default();
        [0, 1, 2, 7].iter().for_each(|cpu| expected.add(*cpu));
        assert_eq!(cpus("0-2,7").unwrap(), expected);
        for wrong in ["", "a", "2-1", "0-", "-1", "99999", "1,,2"] {
            assert!(cpus(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn knows_classes_and_policies() {
        let io = |class: &str, priority| {
            io_priority(&IoPriority {
                class: class.into(),
                priority,
            })
        };
        assert_eq!(io("IOPRIO_CLASS_BE", 4).unwrap(), 2 << 13 | 4);
        assert!(io("IOPRIO_CLASS_BE", 8).is_err());
        assert!(io("BE", 0).is_err());
        let policy = |policy: &str| {
            attributes(&Scheduler {
                policy: policy.into(),
                nice: 5,
                flags: vec!["SCHED_FLAG_RESET_ON_FORK".into()],
                ..Scheduler::default()
            })
        };
        let batch = policy("SCHED_BATCH").unwrap();
        assert_eq!((batch.policy, batch.nice, batch.flags), (3, 5, 1));
        assert!(policy("SCHED_ISO").is_err());
    }
}
