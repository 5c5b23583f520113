//! What the kernel counts.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use super::Cgroup;

const MAX_BYTES: u64 = 64 << 10;
const FILES: [&str; 17] = [
    "cpu.max",
    "cpu.pressure",
    "cpu.stat",
    "cpu.weight",
    "io.pressure",
    "io.stat",
    "memory.current",
    "memory.events",
    "memory.events.local",
    "memory.max",
    "memory.peak",
    "memory.pressure",
    "memory.stat",
    "memory.swap.current",
    "memory.swap.max",
    "pids.current",
    "pids.max",
];

impl Cgroup {
    /// The files there are, by name.
    pub fn stats(&self) -> HashMap<String, String> {
        let read = |name: &&str| {
            let mut text = String::new();
            let file = File::open(self.path.join(name)).ok()?;
            file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
            Some(((*name).to_owned(), text))
        };
        FILES.iter().filter_map(read).collect()
    }
}
