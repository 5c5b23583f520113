//! How the owners of files are shown by a mount (runtime-spec config.md, "mounts": `idmap`): a user namespace in which nobody
//! lives says it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use serde_json::Value;

use super::request::{Trouble, Why};
use crate::sys;

/// One range: ids as the file system has them, as they are shown, and how many.
type Range = [u32; 3];

pub struct IdMap {
    uids: Vec<Range>,
    gids: Vec<Range>,
    /// With what is mounted below.
    pub recursive: bool,
}

impl IdMap {
    /// `{uids: [[from, to, count]…], gids: […], recursive}`.
    pub fn parse(value: &Value) -> Option<IdMap> {
        Some(IdMap {
            uids: ranges(&value["uids"])?,
            gids: ranges(&value["gids"])?,
            recursive: value["recursive"].as_bool()?,
        })
    }

    /// A user namespace with these ranges. Only in a process of one thread.
    pub fn namespace(&self) -> Result<File, Trouble> {
        let (mut said, say) = io::pipe().why("cannot make a pipe")?;
        let Some(child) = sys::fork_with(CloneFlags::CLONE_NEWUSER).why("cannot make a user namespace")? else {
            wait_to_be_killed(say)
        };
        drop(say);
        let mut name = String::new();
        let made = said
            .read_to_string(&mut name)
            .and_then(|_| self.write_into(&Path::new("/proc").join(&name)))
            .why("cannot make a user namespace for its owners");
        let _ = kill(child, Signal::SIGKILL);
        let _ = waitpid(child, None);
        made
    }

    fn write_into(&self, process: &Path) -> io::Result<File> {
        fs::write(process.join("uid_map"), lines(&self.uids))?;
        fs::write(process.join("gid_map"), lines(&self.gids))?;
        File::open(process.join("ns/user"))
    }
}

/// Says what it is called in `/proc`, which may be that of an outer pid namespace, and does no more.
fn wait_to_be_killed(mut say: io::PipeWriter) -> ! {
    let name = fs::read_link("/proc/self").unwrap_or_else(|_| PathBuf::new());
    let _ = say.write_all(name.as_os_str().as_encoded_bytes());
    drop(say);
    // SAFETY: both only take numbers. Nobody would kill it once its parent is gone.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        loop {
            libc::pause();
        }
    }
}

fn lines(ranges: &[Range]) -> String {
    ranges
        .iter()
        .map(|[from, to, count]| format!("{from} {to} {count}\n"))
        .collect()
}

fn ranges(value: &Value) -> Option<Vec<Range>> {
    let number = |item: &Value| item.as_u64().and_then(|number| u32::try_from(number).ok());
    let range = |item: &Value| {
        let [from, to, count] = item.as_array()?.as_slice() else {
            return None;
        };
        Some([number(from)?, number(to)?, number(count)?])
    };
    value.as_array()?.iter().map(range).collect()
}
