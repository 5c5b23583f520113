//! Puts entries of an archive onto a file system, below a root.
//!
//! Nothing is ever written through what is already there: a file, link or device is made anew after what stood
//! at its name is removed, and only directories are merged. So a link planted by one entry cannot redirect the
//! next, and a file of a lower layer that has other hard links keeps its content.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, makedev};
use rustix::io::Errno;

use crate::error::{ArchiveError, ArchiveFailure};
use crate::name::{clean, show, split};
use crate::reader::{Entry, Kind, TarReader};
use crate::remove::remove;
use crate::spot::{Spot, both, chmod, corrupt, describing, making, owner, parent_failed, write_content};
use crate::tree::{Directory, Tree};
use crate::xattr::{self, Xattrs};

/// What an archive may do; the difference between an image, a copy into a container and a copy to the host.
pub(crate) struct Rules {
    /// Owners of the archive instead of the caller's.
    pub owners: bool,
    /// Permission bits that are taken over.
    pub mode_mask: u32,
    /// Device nodes; otherwise they are left out and counted.
    pub devices: bool,
    pub xattrs: Xattrs,
    /// Refuse to replace a directory by something else and the other way round.
    pub keep_types: bool,
    /// A directory entry describes the whole directory, and a directory without one stays as it was: the
    /// attributes that are not named go, and times survive a change of the children.
    pub layer: bool,
}

pub(crate) struct Placer<'a> {
    pub tree: Tree<'a>,
    rules: Rules,
    uid: u32,
    gid: u32,
    /// What has to wait until all children are in place.
    late: HashMap<Vec<u8>, Late>,
    late_bytes: usize,
    /// Device nodes that the rules left out.
    pub skipped: u64,
}

struct Late {
    mtime: Timespec,
    /// Bits that would have kept an unprivileged caller from filling the directory.
    mode: Option<u32>,
}

/// The directories of one archive cost this much memory at most.
const MAX_LATE_BYTES: usize = 128 * 1024 * 1024;

type Placed = Result<(), ArchiveError>;

impl<'a> Placer<'a> {
    pub fn new(tree: Tree<'a>, rules: Rules) -> Self {
        Self {
            tree,
            rules,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            late: HashMap::new(),
            late_bytes: 0,
            skipped: 0,
        }
    }

    /// Puts `entry` at the cleaned `path`.
    pub fn place(&mut self, reader: &mut TarReader, entry: &Entry, path: &[u8]) -> Placed {
        if path.is_empty() {
            return self.merge_root(entry);
        }
        let (above, name) = split(path);
        let parent = self.tree.made(above);
        let parent = parent.map_err(|error| parent_failed(above, error))?;
        if self.rules.layer {
            self.remember(&parent)?;
        }
        let spot = Spot { parent, name };
        match entry.kind {
            Kind::Directory => self.directory(entry, path, &spot),
            Kind::File => self.file(reader, entry, &spot),
            Kind::Symlink => self.symlink(entry, &spot),
            Kind::HardLink => self.hard_link(entry, &spot),
            Kind::CharDevice | Kind::BlockDevice if !self.rules.devices => {
                self.skipped += 1;
                Ok(())
            }
            Kind::CharDevice => self.node(entry, &spot, FileType::CharacterDevice),
            Kind::BlockDevice => self.node(entry, &spot, FileType::BlockDevice),
            Kind::Fifo => self.node(entry, &spot, FileType::Fifo),
        }
    }

    /// Keeps the times of a directory whose children are about to change, unless an entry of this layer set them.
    pub fn remember(&mut self, directory: &Directory) -> Placed {
        if self.late.contains_key(&directory.path) {
            return Ok(());
        }
        let mtime = Timespec {
            tv_sec: directory.stat.st_mtime,
            tv_nsec: directory.stat.st_mtime_nsec as _,
        };
        self.keep(&directory.path, Late { mtime, mode: None })
    }

    fn keep(&mut self, path: &[u8], late: Late) -> Placed {
        const BESIDE_THE_PATH: usize = 96;
        self.late_bytes += path.len() + BESIDE_THE_PATH;
        if self.late_bytes > MAX_LATE_BYTES {
            return Err(ArchiveError::new(
                ArchiveFailure::TooManyEntries,
                "more directories than can be remembered",
            ));
        }
        self.late.insert(path.to_vec(), late);
        Ok(())
    }

    /// Gives directories the times and modes that filling them would have changed or hindered.
    pub fn finish(&mut self) -> Placed {
        self.late_bytes = 0;
        for (path, late) in self.late.drain() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let fd = match self.tree.open(&path, flags) {
                // A later entry or another process replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                opened => opened.map_err(|error| parent_failed(&path, error))?,
            };
            let finished = match late.mode {
                Some(mode) => chmod(&xattr::proc_path(&fd), mode),
                None => Ok(()),
            };
            let times = both(late.mtime);
            finished
                .and_then(|()| rustix::fs::utimensat(&fd, "", &times, AtFlags::EMPTY_PATH))
                .map_err(|error| {
                    let doing = format!("setting the times of directory {}", show(&path));
                    ArchiveError::system(doing, error)
                })?;
        }
        Ok(())
    }

    fn merge_root(&mut self, entry: &Entry) -> Placed {
        if entry.kind != Kind::Directory {
            return Err(ArchiveError::new(
                ArchiveFailure::UnsafePath,
                "something other than a directory in place of the root",
            ));
        }
        // A copy goes into a directory that is not part of it.
        if !self.rules.layer {
            return Ok(());
        }
        let root = self.tree.existing(b"");
        let root = root.map_err(|error| parent_failed(b"", error))?;
        let fd = self
            .tree
            .open(b"", OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| parent_failed(b"", error))?;
        self.describe_directory(entry, b"", &fd, &root.stat)
    }

    fn directory(&mut self, entry: &Entry, path: &[u8], spot: &Spot) -> Placed {
        let make = || rustix::fs::mkdirat(&spot.parent.fd, spot.name, Mode::RWXU);
        match make() {
            Err(Errno::EXIST) if spot.holds_directory() => {}
            Err(Errno::EXIST) => {
                self.clear(entry, spot)?;
                make().map_err(making("a directory"))?;
            }
            made => made.map_err(making("a directory"))?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&spot.parent.fd, spot.name, flags, Mode::empty());
        let fd = opened.map_err(making("a directory"))?;
        self.describe_directory(entry, path, &fd, &spot.parent.stat)?;
        // Its children come next.
        let entered = self.tree.enter(path, fd);
        entered.map(drop).map_err(making("a directory"))
    }

    fn describe_directory(&mut self, entry: &Entry, path: &[u8], fd: &OwnedFd, parent: &Stat) -> Placed {
        if self.rules.layer {
            let path = xattr::proc_path(fd);
            xattr::drop_others(&path, self.rules.xattrs, &entry.xattrs)
                .map_err(|error| ArchiveError::system("clearing extended attributes", error))?;
        }
        let mut mode = entry.mode & self.rules.mode_mask;
        let usable = mode | 0o700;
        let late = (self.uid != 0 && mode != usable).then_some(mode);
        if late.is_some() {
            mode = usable;
        }
        self.describe(entry, fd, parent, mode)?;
        let mtime = entry.mtime;
        self.keep(path, Late { mtime, mode: late })
    }

    fn file(&mut self, reader: &mut TarReader, entry: &Entry, spot: &Spot) -> Placed {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let private = Mode::RUSR | Mode::WUSR;
        let make = || rustix::fs::openat(&spot.parent.fd, spot.name, flags, private);
        let fd = match make() {
            Err(Errno::EXIST) => {
                self.clear(entry, spot)?;
                make()
            }
            made => made,
        };
        let fd = fd.map_err(making("a file"))?;
        write_content(reader, entry, &fd)?;
        self.describe(entry, &fd, &spot.parent.stat, entry.mode & self.rules.mode_mask)?;
        rustix::fs::futimens(&fd, &both(entry.mtime)).map_err(describing)
    }

    fn symlink(&mut self, entry: &Entry, spot: &Spot) -> Placed {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(corrupt("a symbolic link without a target"));
        }
        let target = entry.link.as_slice();
        let make = || rustix::fs::symlinkat(target, &spot.parent.fd, spot.name);
        match make() {
            Err(Errno::EXIST) => {
                self.clear(entry, spot)?;
                make()
            }
            made => made,
        }
        .map_err(making("a symbolic link"))?;
        // Neither call follows links, so they need no descriptor of this one.
        if self.must_chown(entry, &spot.parent.stat) {
            let (uid, gid) = owner(entry);
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&spot.parent.fd, spot.name, uid, gid, flags).map_err(describing)?;
        }
        if !entry.xattrs.is_empty() {
            self.set_xattrs(entry, &xattr::proc_path(&spot.open()?))?;
        }
        let times = both(entry.mtime);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(&spot.parent.fd, spot.name, &times, flags).map_err(describing)
    }

    /// The target counts from the root of the archive and is not followed when it is a link itself. The link
    /// takes nothing else from its entry: owner, mode and times are the target's.
    fn hard_link(&mut self, entry: &Entry, spot: &Spot) -> Placed {
        let shown = show(&entry.link);
        let target = clean(&entry.link).map_err(|e| e.within(format!("hard link to {shown}")))?;
        let (above, target_name) = split(&target);
        let failed = |error| match error {
            Errno::NOENT => corrupt(&format!("a hard link to {shown}, which does not exist")),
            Errno::PERM => corrupt(&format!("a hard link to {shown}, which is a directory")),
            error => ArchiveError::system(format!("making a hard link to {shown}"), error),
        };
        let from = self.tree.open_directory(above).map_err(failed)?;
        let make = || {
            let (to, name) = (&spot.parent.fd, spot.name);
            rustix::fs::linkat(&from, target_name, to, name, AtFlags::empty())
        };
        match make() {
            Err(Errno::EXIST) => {
                if spot.is_same_as(&from, target_name) {
                    return Ok(());
                }
                self.clear(entry, spot)?;
                make()
            }
            made => made,
        }
        .map_err(failed)
    }

    fn node(&mut self, entry: &Entry, spot: &Spot, kind: FileType) -> Placed {
        let device = makedev(entry.device.0, entry.device.1);
        let private = Mode::RUSR | Mode::WUSR;
        let make = || rustix::fs::mknodat(&spot.parent.fd, spot.name, kind, private, device);
        match make() {
            Err(Errno::EXIST) => {
                self.clear(entry, spot)?;
                make()
            }
            made => made,
        }
        .map_err(making("a device node"))?;
        let fd = spot.open()?;
        let stat = rustix::fs::fstat(&fd).map_err(describing)?;
        if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != device {
            return Err(making("a device node")(Errno::STALE));
        }
        self.describe(entry, &fd, &spot.parent.stat, entry.mode & self.rules.mode_mask)?;
        let times = both(entry.mtime);
        rustix::fs::utimensat(&fd, "", &times, AtFlags::EMPTY_PATH).map_err(describing)
    }

    /// Owner, then mode, then attributes: a change of owner takes set-id bits and capabilities away.
    fn describe(&self, entry: &Entry, fd: &OwnedFd, parent: &Stat, mode: u32) -> Placed {
        if self.must_chown(entry, parent) || entry.kind == Kind::Directory && self.rules.owners {
            let (uid, gid) = owner(entry);
            rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH).map_err(describing)?;
        }
        let is_path_only = !matches!(entry.kind, Kind::File | Kind::Directory);
        match is_path_only {
            true => chmod(&xattr::proc_path(fd), mode),
            false => rustix::fs::fchmod(fd, Mode::from_raw_mode(mode)),
        }
        .map_err(describing)?;
        if entry.xattrs.is_empty() {
            return Ok(());
        }
        self.set_xattrs(entry, &xattr::proc_path(fd))
    }

    fn set_xattrs(&self, entry: &Entry, path: &str) -> Placed {
        for (name, value) in &entry.xattrs {
            if !self.rules.xattrs.keep(name) {
                continue;
            }
            xattr::set(path, name, value).map_err(|error| {
                let shown = show(name);
                let doing = format!("setting extended attribute {shown} ({} bytes)", value.len());
                let failed = ArchiveError::system(doing, error);
                match error {
                    Errno::INVAL | Errno::RANGE | Errno::TOOBIG => failed.because(ArchiveFailure::CorruptArchive),
                    _ => failed,
                }
            })?;
        }
        Ok(())
    }

    /// A new file belongs to its maker, and to the group of a set-gid parent.
    fn must_chown(&self, entry: &Entry, parent: &Stat) -> bool {
        const SET_GID: u32 = 0o2000;
        let group = match parent.st_mode & SET_GID {
            0 => self.gid,
            _ => parent.st_gid,
        };
        self.rules.owners && (entry.uid, entry.gid) != (self.uid, group)
    }

    fn clear(&self, entry: &Entry, spot: &Spot) -> Placed {
        let for_directory = entry.kind == Kind::Directory;
        if self.rules.keep_types && for_directory != spot.holds_directory() {
            let text = match for_directory {
                true => "a directory cannot replace what is not one",
                false => "what is not a directory cannot replace one",
            };
            return Err(ArchiveError::new(ArchiveFailure::NotADirectory, text));
        }
        remove(&spot.parent.fd, spot.name).map_err(|error| ArchiveError::system("replacing what is there", error))
    }
}
