//! Walking below a root: no path reaches the kernel that could leave it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::name::{MAX_PATH, join, split};

/// What links in the middle of a path do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// They lead where they would with the root as `/`.
    InRoot,
    /// They are refused with ELOOP.
    Refused,
}

pub(crate) struct Tree<'a> {
    root: &'a File,
    /// Where, below the root, the paths given to a tree start. Not cleaned: links in it may be followed.
    prefix: Vec<u8>,
    links: Links,
    /// The directory of the last entry. Nothing below it but its own children changes before the next look-up,
    /// so it cannot go stale.
    current: Option<Rc<Directory>>,
}

pub(crate) struct Directory {
    pub path: Vec<u8>,
    /// O_PATH.
    pub fd: OwnedFd,
    pub stat: Stat,
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
/// As many links as the kernel follows in one walk.
const MAX_LINKS: u32 = 40;

impl<'a> Tree<'a> {
    pub fn new(root: &'a File, prefix: &[u8], links: Links) -> Self {
        Self {
            root,
            prefix: prefix.to_vec(),
            links,
            current: None,
        }
    }

    /// Opens `path` with `flags`; give `NOFOLLOW` for an entry itself.
    pub fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        self.open_full(&self.full(path), flags)
    }

    pub fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open(path, DIRECTORY)
    }

    /// The directory `path`, an existing one.
    pub fn existing(&mut self, path: &[u8]) -> Result<Rc<Directory>, Errno> {
        match &self.current {
            Some(known) if known.path == path => Ok(Rc::clone(known)),
            _ => self.enter(path, self.open_directory(path)?),
        }
    }

    /// The directory `path`, made with its parents when missing.
    pub fn made(&mut self, path: &[u8]) -> Result<Rc<Directory>, Errno> {
        match self.existing(path) {
            Err(Errno::NOENT) => self.enter(path, self.make(self.full(path))?),
            known => known,
        }
    }

    /// Makes the directory behind `fd` the current one.
    pub fn enter(&mut self, path: &[u8], fd: OwnedFd) -> Result<Rc<Directory>, Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        let path = path.to_vec();
        let entered = Rc::new(Directory { path, fd, stat });
        self.current = Some(Rc::clone(&entered));
        Ok(entered)
    }

    /// Like `mkdir -p`, through links that lead nowhere yet: an image may hold `/var/run -> /run` without `/run`.
    fn make(&self, full: Vec<u8>) -> Result<OwnedFd, Errno> {
        let mut path = full;
        let mut links = MAX_LINKS;
        let mut done = 0;
        while let Some(end) = end_of_component(&path, done) {
            match self.open_full(&path[..end], DIRECTORY) {
                Err(Errno::NOENT) => {}
                opened => {
                    opened?;
                    done = end;
                    continue;
                }
            }
            let (above, name) = split(&path[..end]);
            let above = if above.is_empty() { b"." } else { above };
            let parent = self.open_full(above, DIRECTORY)?;
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) if self.links == Links::InRoot => {
                    links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                    let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
                    let target = match target.as_bytes() {
                        absolute @ [b'/', ..] => absolute.to_vec(),
                        relative => join(above, relative),
                    };
                    path = [&target, &path[end..]].concat();
                    done = 0;
                    if path.len() > MAX_PATH {
                        return Err(Errno::NAMETOOLONG);
                    }
                }
                result => {
                    result?;
                    done = end;
                }
            }
        }
        self.open_full(&path, DIRECTORY)
    }

    fn open_full(&self, full: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::NO_MAGICLINKS
            | match self.links {
                Links::InRoot => ResolveFlags::IN_ROOT,
                Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            };
        open_below(self.root, full, flags, resolve)
    }

    fn full(&self, path: &[u8]) -> Vec<u8> {
        match join(&self.prefix, path) {
            full if full.is_empty() => b".".to_vec(),
            full => full,
        }
    }
}

/// Where the first component that starts at or after `from` ends.
fn end_of_component(path: &[u8], from: usize) -> Option<usize> {
    let start = from + path[from..].iter().position(|&byte| byte != b'/')?;
    let length = path[start..].iter().position(|&byte| byte == b'/');
    Some(length.map_or(path.len(), |length| start + length))
}

/// openat2(2) gives EAGAIN when a rename elsewhere raced with `..` in the walk.
pub(crate) fn open_below(root: impl AsFd, path: &[u8], flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    const ATTEMPTS: usize = 128;
    let root = root.as_fd();
    for _ in 0..ATTEMPTS {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}
