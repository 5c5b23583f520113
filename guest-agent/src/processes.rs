//! The processes of a container as ps(1) would list them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use crate::container::Container;
use crate::container::user::{name_of, read_database};
use crate::contract::ProcessInfo;
use crate::failure::{Doing, Result};

/// Of the command line of one process, and of all of them together.
const MAX_COMMAND_LINE: u64 = 4096;
const MAX_COMMAND_LINES: usize = 1 << 20;

pub fn list(container: &Container) -> Result<Vec<ProcessInfo>> {
    let pids = container
        .cgroup
        .processes()
        .doing(|| format!("listing the processes of {}", container.id))?;
    let passwd = container
        .root_view()
        .map(|root| read_database(root.as_fd(), "/etc/passwd"))
        .unwrap_or_default();
    let clock = Clock::read();
    // Processes that end meanwhile are left out.
    let found = pids
        .into_iter()
        .filter_map(|pid| read_process(pid, &clock))
        .collect::<Vec<_>>();
    let inside: HashMap<u32, u32> = found
        .iter()
        .map(|process| (process.guest_pid, process.info.pid))
        .collect();
    let mut command_lines = 0;
    Ok(found
        .into_iter()
        .map(
            |Found {
                 guest_ppid, mut info, ..
             }| {
                info.ppid = inside.get(&guest_ppid).copied().unwrap_or(0);
                info.user = name_of(&passwd, info.uid).map_or_else(|| info.uid.to_string(), str::to_owned);
                command_lines += info.args.iter().map(String::len).sum::<usize>();
                if command_lines > MAX_COMMAND_LINES {
                    info.args.truncate(1);
                }
                info
            },
        )
        .collect())
}

struct Found {
    guest_pid: u32,
    guest_ppid: u32,
    info: ProcessInfo,
}

struct Clock {
    ticks_per_second: u64,
    boot_realtime_ms: u64,
    uptime_ms: u64,
}

impl Clock {
    fn read() -> Self {
        let milliseconds = |clock| {
            let time = clock_gettime(clock);
            time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
        };
        let uptime_ms = milliseconds(ClockId::Boottime);
        Self {
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            boot_realtime_ms: milliseconds(ClockId::Realtime).saturating_sub(uptime_ms),
            uptime_ms,
        }
    }

    fn to_ms(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(1000) / self.ticks_per_second
    }
}

fn read_process(pid: Pid, clock: &Clock) -> Option<Found> {
    let pid = pid.as_raw_nonzero().get() as u32;
    let read = |file: &str| read_bounded(&format!("/proc/{pid}/{file}"), MAX_COMMAND_LINE);
    let (stat, status) = (read("stat")?, read("status")?);
    let stat = Stat::parse(&stat)?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let pid_inside = field("NSpid:")?.split_ascii_whitespace().last()?.parse().ok()?;
    let uid = field("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let started_ms = clock.to_ms(stat.start_ticks);
    let cpu_time_ms = clock.to_ms(stat.cpu_ticks);
    let elapsed_ms = clock.uptime_ms.saturating_sub(started_ms).max(1);
    let command_line = read("cmdline")?;
    let args = match command_line.trim_end_matches('\0') {
        // A kernel thread or a zombie.
        "" => vec![format!("[{}]", stat.name)],
        line => line.split('\0').map(str::to_owned).collect(),
    };
    let info = ProcessInfo {
        pid: pid_inside,
        ppid: 0,
        uid,
        user: String::new(),
        start_realtime_ms: clock.boot_realtime_ms + started_ms,
        cpu_time_ms,
        tty: tty_name(stat.tty),
        args,
        rss_bytes: stat.rss_pages * rustix::param::page_size() as u64,
        cpu_percent: (cpu_time_ms * 100 / elapsed_ms) as u32,
    };
    Some(Found {
        guest_pid: pid,
        guest_ppid: stat.ppid,
        info,
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Stat<'a> {
    name: &'a str,
    ppid: u32,
    tty: u32,
    cpu_ticks: u64,
    start_ticks: u64,
    rss_pages: u64,
}

impl<'a> Stat<'a> {
    /// The name may hold anything, spaces and parentheses included; the fields follow its last parenthesis.
    fn parse(line: &'a str) -> Option<Self> {
        let (head, tail) = line.rsplit_once(") ")?;
        let fields = tail.split_ascii_whitespace().collect::<Vec<_>>();
        // proc(5) counts from 1, and the first field here is its third.
        let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
        Some(Self {
            name: head.split_once('(')?.1,
            ppid: number(4)? as u32,
            tty: number(7)? as u32,
            cpu_ticks: (number(14)? + number(15)?) as u64,
            start_ticks: number(22)? as u64,
            rss_pages: number(24)?.max(0) as u64,
        })
    }
}

/// Unix98 slaves have the major numbers 136 to 143; see new_encode_dev for the layout.
fn tty_name(device: u32) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match major {
        136..=143 => format!("pts/{}", (major - 136) << 20 | minor),
        _ => "?".to_owned(),
    }
}

fn read_bounded(path: &str, limit: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_with_parentheses() {
        let line =
            "12 (a) b (c)) S 1 12 12 34816 12 4194560 1 2 3 4 50 25 0 0 20 0 1 0 777 1000 33 18446744073709551615";
        let expected = Stat {
            name: "a) b (c)",
            ppid: 1,
            tty: 34816,
            cpu_ticks: 75,
            start_ticks: 777,
            rss_pages: 33,
        };
        assert_eq!(Stat::parse(line), Some(expected));
        assert_eq!(Stat::parse("12 (x"), None);
    }

    #[test]
    fn names_terminals() {
        assert_eq!(tty_name(34816), "pts/0");
        assert_eq!(tty_name(34816 + 7), "pts/7");
        assert_eq!(tty_name(0), "?");
        assert_eq!(tty_name(1025), "?");
    }
}
