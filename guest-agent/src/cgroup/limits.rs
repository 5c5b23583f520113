//! Limits: what of a request is written to which file.

use std::fs;

use super::{CONTAINERS, Cgroup, ROOT};
use crate::contract::{FailureReason, HugepageLimit, IoDeviceLimit, Resources};
use crate::failure::{Doing, Failure, Result};

const DEFAULT_PERIOD_US: u64 = 100_000;
const MAX_ITEMS: usize = 1024;
const MAX_VALUE: usize = 4096;

impl Cgroup {
    /// Writes what the request names and leaves the rest as it is. Device rules are not among it.
    pub fn apply(&self, resources: &Resources) -> Result<()> {
        check(resources)?;
        enable_controllers(resources)?;
        self.apply_memory(resources)?;
        self.apply_cpu(resources)?;
        if let Some(count) = resources.pids_max {
            self.write("pids.max", &number(count))?;
        }
        self.apply_io(resources)?;
        for limit in &resources.hugepage_limits {
            self.apply_hugepages(limit)?;
        }
        for (file, value) in &resources.unified {
            self.write(file, value)?;
        }
        Ok(())
    }

    fn apply_memory(&self, resources: &Resources) -> Result<()> {
        let Resources {
            memory_max_bytes,
            memory_low_bytes,
            memory_swap_max_bytes,
            memory_check_before_update,
            ..
        } = *resources;
        if let (true, Some(limit)) = (memory_check_before_update, memory_max_bytes) {
            let used = self.read("memory.current")?.trim_end().parse::<u64>().unwrap_or(0);
            if used > limit {
                let message = format!("rejecting memory limit {limit} < usage {used}");
                return Err(Failure::new(FailureReason::WrongState, message));
            }
        }
        // A kernel without swap accounting has no file for it, and nothing to limit.
        if let Some(swap) = memory_swap_max_bytes
            && self.path.join("memory.swap.max").exists()
        {
            self.write("memory.swap.max", &number(swap))?;
        }
        for (file, limit) in [("memory.max", memory_max_bytes), ("memory.low", memory_low_bytes)] {
            if let Some(limit) = limit {
                self.write(file, &number(limit))?;
            }
        }
        Ok(())
    }

    fn apply_cpu(&self, resources: &Resources) -> Result<()> {
        let Resources {
            cpu_quota_us,
            cpu_period_us,
            cpu_burst_us,
            cpu_weight,
            cpu_idle,
            ..
        } = *resources;
        if let Some(idle) = cpu_idle {
            self.write("cpu.idle", if idle { "1" } else { "0" })?;
        }
        // An idle group has no weight.
        if let (Some(weight), true) = (cpu_weight, cpu_idle != Some(true)) {
            self.write("cpu.weight", &weight.to_string())?;
        }
        // A burst must not be larger than the quota, so which of the two can come first depends on what they were.
        let burst = cpu_burst_us.map(|burst| burst.to_string());
        let burst_first = burst
            .as_ref()
            .is_some_and(|burst| self.write("cpu.max.burst", burst).is_ok());
        if cpu_quota_us.is_some() || cpu_period_us.is_some() {
            let before = self.read("cpu.max")?;
            let mut before = before.split_ascii_whitespace();
            let quota = cpu_quota_us.map(number);
            let quota = quota.as_deref().or(before.next()).unwrap_or("max");
            let period = cpu_period_us.or_else(|| before.last()?.parse().ok());
            self.write("cpu.max", &format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD_US)))?;
        }
        if let (Some(burst), false) = (burst, burst_first) {
            self.write("cpu.max.burst", &burst)?;
        }
        for (file, set) in [
            ("cpuset.cpus", &resources.cpuset_cpus),
            ("cpuset.mems", &resources.cpuset_mems),
        ] {
            if !set.is_empty() {
                self.write(file, set)?;
            }
        }
        Ok(())
    }

    fn apply_io(&self, resources: &Resources) -> Result<()> {
        if let Some(weight) = resources.io_weight {
            self.write("io.weight", &format!("default {weight}"))?;
        }
        for device in &resources.io_device_weights {
            let line = format!("{}:{} {}", device.major, device.minor, device.weight);
            self.write("io.weight", &line)?;
        }
        for limit in &resources.io_device_limits {
            self.write("io.max", &io_line(limit))?;
        }
        Ok(())
    }

    /// Of a size that this kernel does not have there are no pages, so that any limit holds.
    fn apply_hugepages(&self, HugepageLimit { page_size, limit_bytes }: &HugepageLimit) -> Result<()> {
        let file = format!("hugetlb.{page_size}.max");
        if !self.path.join(&file).exists() {
            return Ok(());
        }
        self.write(&file, &number(*limit_bytes))?;
        // Reservations are limited too, as runc does it.
        self.write(&format!("hugetlb.{page_size}.rsvd.max"), &number(*limit_bytes))
    }
}

fn check(resources: &Resources) -> Result<()> {
    let counts = [
        resources.io_device_weights.len(),
        resources.io_device_limits.len(),
        resources.hugepage_limits.len(),
        resources.unified.len(),
    ];
    if counts.iter().any(|count| *count > MAX_ITEMS) {
        return Err(Failure::invalid(format!(
            "resources: a list of more than {MAX_ITEMS} items"
        )));
    }
    let plain = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte))
    };
    let sizes = resources.hugepage_limits.iter().map(|limit| &limit.page_size);
    if let Some(name) = resources
        .unified
        .keys()
        .chain(sizes)
        .find(|name| !plain(name) || name.starts_with('.'))
    {
        return Err(Failure::invalid(format!("resources: {name:?} is no file of a cgroup")));
    }
    // Moving processes or freezing them is no limit.
    if let Some(name) = resources
        .unified
        .keys()
        .find(|name| name.starts_with("cgroup.") && *name != "cgroup.max.depth" && *name != "cgroup.max.descendants")
    {
        return Err(Failure::invalid(format!("resources: {name} is not a limit")));
    }
    if let Some(name) = resources
        .unified
        .iter()
        .find(|(_, value)| value.len() > MAX_VALUE)
        .map(|(name, _)| name)
    {
        return Err(Failure::invalid(format!("resources: the value of {name} is too long")));
    }
    Ok(())
}

fn enable_controllers(resources: &Resources) -> Result<()> {
    let Resources {
        cpuset_cpus,
        cpuset_mems,
        io_weight,
        io_device_weights,
        io_device_limits,
        hugepage_limits,
        unified,
        ..
    } = resources;
    let needed = [
        ("cpuset", !cpuset_cpus.is_empty() || !cpuset_mems.is_empty()),
        (
            "io",
            io_weight.is_some() || !io_device_weights.is_empty() || !io_device_limits.is_empty(),
        ),
        ("hugetlb", !hugepage_limits.is_empty()),
        ("misc", false),
    ];
    for (controller, needed) in needed {
        let prefix = format!("{controller}.");
        if needed || unified.keys().any(|file| file.starts_with(&prefix)) {
            for group in [ROOT, CONTAINERS] {
                fs::write(format!("{group}/cgroup.subtree_control"), format!("+{controller}"))
                    .doing(|| format!("enabling the {controller} controller"))?;
            }
        }
    }
    Ok(())
}

fn io_line(limit: &IoDeviceLimit) -> String {
    let fields = [
        ("rbps", limit.read_bytes_per_second),
        ("wbps", limit.write_bytes_per_second),
        ("riops", limit.read_ops_per_second),
        ("wiops", limit.write_ops_per_second),
    ];
    let mut line = format!("{}:{}", limit.major, limit.minor);
    for (name, value) in fields {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={}", number(value)));
        }
    }
    line
}

/// All ones mean no limit.
fn number(value: u64) -> String {
    if value == u64::MAX {
        "max".to_owned()
    } else {
        value.to_string()
    }
}
