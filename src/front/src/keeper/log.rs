use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

use crate::failure::{Doing, Failure};

/// A file of the log and the one before it are at most this long: `/run` is memory.
const LIMIT: u64 = 1 << 20;

/// What the daemon and its children say on stdout and stderr. It goes through the keeper, because only so it can be
/// bounded while the daemon runs; one pipe serves all daemons, so that children which outlive one keep their stderr.
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    read: PipeReader,
    write: PipeWriter,
}

impl Log {
    pub fn open(path: PathBuf) -> Result<Log, Failure> {
        let (read, write) = io::pipe().doing(|| "cannot make a pipe".into())?;
        // Node does not wait for a full pipe when it exits: room for its last words, where the system gives it.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(LIMIT as i32));
        let file = append_to(&path).doing(|| format!("cannot write {}", path.display()))?;
        let size = file.metadata().map_or(0, |found| found.len());
        Ok(Log {
            path,
            file: Some(file),
            size,
            read,
            write,
        })
    }

    pub fn source(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    pub fn sink(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.write.try_clone()?))
    }

    /// A line of the keeper itself, in the form of the daemon's.
    pub fn note(&mut self, message: &str) {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        let line = json!({ "level": 30, "time": time, "name": "keeper", "msg": message });
        self.append(format!("{line}\n").as_bytes());
    }

    /// One read of what was said; waits if nothing was.
    pub fn take_in(&mut self) {
        let mut buffer = [0; 16 << 10];
        if let Ok(count) = self.read.read(&mut buffer) {
            self.append(&buffer[..count]);
        }
    }

    /// Everything that was said up to now: the last words of a daemon that died.
    pub fn take_in_rest(&mut self) {
        for _ in 0..64 {
            let mut source = [PollFd::new(self.read.as_fd(), PollFlags::POLLIN)];
            if !matches!(poll(&mut source, PollTimeout::ZERO), Ok(1..)) {
                return;
            }
            self.take_in();
        }
    }

    /// A log that cannot be written must not end a daemon that works.
    fn append(&mut self, bytes: &[u8]) {
        if self.size + bytes.len() as u64 > LIMIT {
            let _ = fs::rename(&self.path, self.path.with_extension("log.1"));
            self.file = append_to(&self.path).ok();
            self.size = 0;
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(bytes);
            self.size += bytes.len() as u64;
        }
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_two_files_of_its_limit_and_keeps_the_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hrund.log");
        let mut log = Log::open(path.clone()).unwrap();
        for number in 0..30_000 {
            log.note(&format!(
                "line {number} of a daemon that has much to say about what it does"
            ));
        }
        let before = path.with_extension("log.1");
        assert!(fs::metadata(&path).unwrap().len() <= LIMIT);
        assert!(fs::metadata(before).unwrap().len() <= LIMIT);
        assert!(fs::read_to_string(path).unwrap().contains("line 29999 "));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
