//! Where one entry goes, what fills it, and how failures there are told.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::error::{ArchiveError, ArchiveFailure};
use crate::name::show;
use crate::reader::{Entry, TarReader};
use crate::tree::Directory;

/// Where one entry goes.
pub(crate) struct Spot<'n> {
    pub parent: Rc<Directory>,
    pub name: &'n [u8],
}

impl Spot<'_> {
    fn stat(&self) -> Option<Stat> {
        rustix::fs::statat(&self.parent.fd, self.name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    pub fn holds_directory(&self) -> bool {
        self.stat()
            .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    pub fn is_same_as(&self, directory: impl AsFd, name: &[u8]) -> bool {
        let other = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        match (self.stat(), other) {
            (Some(this), Ok(other)) => (this.st_dev, this.st_ino) == (other.st_dev, other.st_ino),
            _ => false,
        }
    }

    pub fn open(&self) -> Result<OwnedFd, ArchiveError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.parent.fd, self.name, flags, Mode::empty()).map_err(describing)
    }
}

pub(crate) fn write_content(reader: &mut TarReader, entry: &Entry, fd: &OwnedFd) -> Result<(), ArchiveError> {
    let Some(segments) = &entry.segments else {
        return write_range(reader, fd, 0, entry.size);
    };
    for segment in segments {
        write_range(reader, fd, segment.offset, segment.length)?;
    }
    rustix::fs::ftruncate(fd, entry.size)
        .map_err(|error| ArchiveError::system(format!("making a file of {} bytes", entry.size), error))
}

fn write_range(reader: &mut TarReader, fd: &OwnedFd, offset: u64, length: u64) -> Result<(), ArchiveError> {
    let mut done = 0;
    while done < length {
        let mut bytes = reader.data(length - done)?;
        while !bytes.is_empty() {
            let written = match rustix::io::pwrite(fd, bytes, offset + done) {
                Err(Errno::INTR) => continue,
                Ok(0) => Err(Errno::IO),
                written => written,
            };
            let written = written.map_err(|error| {
                let doing = format!("writing bytes {done} to {length} of its data");
                ArchiveError::system(doing, error)
            })?;
            done += written as u64;
            bytes = &bytes[written..];
        }
    }
    Ok(())
}

pub(crate) fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}

pub(crate) fn both(time: Timespec) -> Timestamps {
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// chmod(2) of exactly the file behind a `proc_path`: it works on O_PATH and follows no link.
pub(crate) fn chmod(path: &str, mode: u32) -> Result<(), Errno> {
    rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty())
}

pub(crate) fn corrupt(text: &str) -> ArchiveError {
    ArchiveError::new(ArchiveFailure::CorruptArchive, text)
}

pub(crate) fn making(what: &str) -> impl Fn(Errno) -> ArchiveError {
    move |error| {
        let failed = ArchiveError::system(format!("making {what}"), error);
        match error {
            Errno::NAMETOOLONG => failed.because(ArchiveFailure::CorruptArchive),
            _ => failed,
        }
    }
}

pub(crate) fn describing(error: Errno) -> ArchiveError {
    ArchiveError::system("setting owner, mode or times", error)
}

pub(crate) fn parent_failed(path: &[u8], error: Errno) -> ArchiveError {
    let shown = show(path);
    match error {
        Errno::NOTDIR => corrupt(&format!("its parent {shown} is not a directory")),
        Errno::LOOP | Errno::XDEV => ArchiveError::new(
            ArchiveFailure::UnsafePath,
            format!("its parent {shown} leads through a link that may not be followed"),
        ),
        Errno::NAMETOOLONG => corrupt(&format!("its parent {shown} is too long a path")),
        error => ArchiveError::system(format!("opening its parent {shown}"), error),
    }
}
