//! Ids of a user namespace.

use rustix::process::Pid;

use crate::contract::{IdMapping, TimeOffset};
use crate::failure::{Doing, Failure, Result};

/// The kernel takes no more lines.
const MAX_LINES: usize = 340;

#[derive(Clone, Debug, Default)]
pub struct IdMaps {
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
}

impl IdMaps {
    pub fn new(uids: &[IdMapping], gids: &[IdMapping]) -> Result<Self> {
        for IdMapping {
            container_id,
            host_id,
            size,
        } in uids.iter().chain(gids)
        {
            let fits = |first: u32| first.checked_add(size.wrapping_sub(1)).is_some();
            if *size == 0 || !fits(*container_id) || !fits(*host_id) {
                return Err(Failure::invalid("a mapping of ids is empty or too large"));
            }
        }
        if uids.len().max(gids.len()) > MAX_LINES {
            return Err(Failure::invalid(format!("more than {MAX_LINES} mappings of ids")));
        }
        Ok(Self {
            uids: uids.to_vec(),
            gids: gids.to_vec(),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    pub fn is_complete(&self) -> bool {
        !self.uids.is_empty() && !self.gids.is_empty()
    }

    /// What an id inside is outside; none: nobody.
    pub fn uid(&self, inside: u32) -> Option<u32> {
        outside(&self.uids, inside)
    }

    pub fn gid(&self, inside: u32) -> Option<u32> {
        outside(&self.gids, inside)
    }

    /// For a process that has just entered a new user namespace.
    pub fn write(&self, pid: Pid) -> Result<()> {
        for (file, lines) in [("uid_map", &self.uids), ("gid_map", &self.gids)] {
            let line = |map: &IdMapping| format!("{} {} {}\n", map.container_id, map.host_id, map.size);
            let text = lines.iter().map(line).collect::<String>();
            let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
            std::fs::write(path, text).doing(|| format!("writing {file}"))?;
        }
        Ok(())
    }
}

/// For a process that has just made a new time namespace, which nothing has entered yet.
pub fn write_clocks(pid: Pid, offsets: &[TimeOffset]) -> Result<()> {
    let line = |offset: &TimeOffset| format!("{} {} {}\n", offset.clock, offset.seconds, offset.nanoseconds);
    let path = format!("/proc/{}/timens_offsets", pid.as_raw_nonzero());
    std::fs::write(path, offsets.iter().map(line).collect::<String>()).doing(|| "setting clock offsets".into())
}

/// One that says nothing about line breaks or other clocks.
pub fn check_clocks(offsets: &[TimeOffset]) -> Result<()> {
    match offsets
        .iter()
        .find(|offset| !matches!(offset.clock.as_str(), "monotonic" | "boottime"))
    {
        Some(offset) => Err(Failure::invalid(format!("no clock is called {:?}", offset.clock))),
        None => Ok(()),
    }
}

fn outside(lines: &[IdMapping], inside: u32) -> Option<u32> {
    lines.iter().find_map(|map| {
        let offset = inside.checked_sub(map.container_id)?;
        (offset < map.size).then(|| map.host_id + offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping {
            container_id,
            host_id,
            size,
        }
    }

    #[test]
    fn finds_ids_outside() {
        let maps = IdMaps::new(&[map(0, 1000, 1), map(1, 100_000, 65535)], &[map(0, 0, u32::MAX)]).unwrap();
        assert_eq!(maps.uid(0), Some(1000));
        assert_eq!(maps.uid(33), Some(100_032));
        assert_eq!(maps.uid(65_536), None);
        assert_eq!(maps.gid(5), Some(5));
    }

    #[test]
    fn refuses_ranges_that_do_not_fit() {
        for wrong in [map(0, 0, 0), map(2, 0, u32::MAX), map(0, u32::MAX, 2)] {
            assert!(IdMaps::new(&[wrong], &[]).is_err(), "{wrong:?}");
        }
    }
}
