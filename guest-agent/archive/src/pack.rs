//! Copies out: a tar of a file, link or directory with all below it. Links are stored, never followed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, Timespec};
use rustix::io::Errno;

use crate::error::{ArchiveError, ArchiveFailure};
use crate::header::BLOCK;
use crate::listing::{is_kernel_view, sorted_names};
use crate::name::{join, show};
use crate::pax;
use crate::reader::Kind;
use crate::tree::open_below;
use crate::writer::{END, Member, header_of};
use crate::xattr::{self, Xattr, Xattrs};

/// How a tar is written.
pub struct PackOptions<'a> {
    /// Name of the top entry; everything below it is called `name/…`.
    pub name: &'a [u8],
    /// Owner of all entries instead of the files' own.
    pub owner: Option<(u32, u32)>,
}

/// Writes a tar of what `top` (O_PATH is enough) refers to and returns its length in bytes. Sockets are left out;
/// a directory of a kernel file system (/proc, /sys) that is not the top itself is written without its content.
pub fn pack_file(top: &OwnedFd, options: &PackOptions, output: &mut dyn Write) -> Result<u64, ArchiveError> {
    let mut output = BufWriter::with_capacity(CHUNK, output);
    let mut packer = Packer::new(options, Some(&mut output));
    packer.pack(top)?;
    let length = packer.length;
    output.flush().map_err(|error| writing(length, error))?;
    Ok(length)
}

/// The length of the tar that `pack_file` would write now, without reading any content.
pub(crate) fn packed_length(top: &OwnedFd, options: &PackOptions) -> Result<u64, ArchiveError> {
    let mut packer = Packer::new(options, None);
    packer.pack(top)?;
    Ok(packer.length)
}

const CHUNK: usize = 1024 * 1024;
/// Files with several names that are remembered; beyond, their content is stored once per name.
const MAX_LINKED: usize = 100_000;

struct Packer<'a> {
    options: &'a PackOptions<'a>,
    output: Option<&'a mut dyn Write>,
    length: u64,
    /// (device, inode) → name in the archive and how many more names there may be.
    linked: HashMap<(u64, u64), (Vec<u8>, u64)>,
    chunk: Vec<u8>,
}

/// A directory whose children are being packed.
struct Level {
    /// Relative to the top.
    path: Vec<u8>,
    device: u64,
    /// What is left, last first.
    names: Vec<Vec<u8>>,
}

impl<'a> Packer<'a> {
    fn new(options: &'a PackOptions, output: Option<&'a mut dyn Write>) -> Self {
        Self {
            options,
            output,
            length: 0,
            linked: HashMap::new(),
            chunk: Vec::new(),
        }
    }

    fn pack(&mut self, top: &OwnedFd) -> Result<(), ArchiveError> {
        let mut levels = Vec::new();
        levels.extend(self.object(top, b"", None)?);
        let mut current: Option<(usize, OwnedFd)> = None;
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            let path = join(&level.path, &name);
            let device = level.device;
            let depth = levels.len();
            if current.as_ref().is_none_or(|(known, _)| *known != depth) {
                let path = &levels[depth - 1].path;
                current = open_again(top, path)
                    .map_err(|error| reading(path, error))?
                    .map(|fd| (depth, fd));
            }
            let Some((_, directory)) = &current else {
                // The directory went away while its children were packed.
                levels.pop();
                continue;
            };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(directory, name.as_slice(), flags, Mode::empty()) {
                Err(Errno::NOENT) => {}
                Err(error) => return Err(reading(&path, error)),
                Ok(child) => {
                    if let Some(below) = self.object(&child, &path, Some(device))? {
                        levels.push(below);
                        current = Some((levels.len(), child));
                    }
                }
            }
        }
        self.write(&END)
    }

    /// Writes one object; for a directory, what is to be packed next. `path` is relative to the top.
    fn object(
        &mut self,
        file: &OwnedFd,
        path: &[u8],
        parent_device: Option<u64>,
    ) -> Result<Option<Level>, ArchiveError> {
        let failed = |error| reading(path, error);
        let stat = rustix::fs::fstat(file).map_err(failed)?;
        let Some(kind) = kind_of(&stat) else {
            return Ok(None);
        };
        let link = match kind {
            Kind::Symlink => rustix::fs::readlinkat(file, "", Vec::new())
                .map_err(failed)?
                .into_bytes(),
            _ => Vec::new(),
        };
        let mut name = join(self.options.name, path);
        if kind == Kind::Directory {
            name.push(b'/');
        }
        if let Some(first) = self.other_name(&stat, kind, &name) {
            self.header(&stat, Kind::HardLink, &name, &first, &[])?;
            return Ok(None);
        }
        let xattrs = xattrs_of(file, path)?;
        self.header(&stat, kind, &name, &link, &xattrs)?;
        if kind == Kind::File {
            self.content(file, path, size_of(&stat, kind))?;
        }
        if kind != Kind::Directory {
            return Ok(None);
        }
        let device = stat.st_dev;
        if parent_device.is_some_and(|parent| parent != device) && is_kernel_view(file) {
            return Ok(None);
        }
        let mut names = sorted_names(file).map_err(|error| error.within(show(path)))?;
        names.reverse();
        Ok(Some(Level {
            path: path.to_vec(),
            device,
            names,
        }))
    }

    /// The name under which a file with several names is in the archive already.
    fn other_name(&mut self, stat: &Stat, kind: Kind, name: &[u8]) -> Option<Vec<u8>> {
        if kind == Kind::Directory || stat.st_nlink < 2 {
            return None;
        }
        let identity = (stat.st_dev, stat.st_ino);
        if let Some((first, left)) = self.linked.get_mut(&identity) {
            *left -= 1;
            if *left == 0 {
                return self.linked.remove(&identity).map(|(first, _)| first);
            }
            return Some(first.clone());
        }
        if self.linked.len() < MAX_LINKED {
            let others = u64::from(stat.st_nlink as u32) - 1;
            self.linked.insert(identity, (name.to_vec(), others));
        }
        None
    }

    fn header(
        &mut self,
        stat: &Stat,
        kind: Kind,
        name: &[u8],
        link: &[u8],
        xattrs: &[Xattr],
    ) -> Result<(), ArchiveError> {
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let (uid, gid) = self.options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let header = header_of(&Member {
            name,
            kind,
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            mtime: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: stat.st_mtime_nsec as _,
            },
            size: size_of(stat, kind),
            link,
            device: match is_device {
                true => (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
                false => (0, 0),
            },
            xattrs,
        });
        self.write(&header)
    }

    /// Exactly `size` bytes: what a file grew meanwhile is left out, what it lost is zeros, as in GNU tar.
    fn content(&mut self, file: &OwnedFd, path: &[u8], size: u64) -> Result<(), ArchiveError> {
        let padded = size.next_multiple_of(BLOCK as u64);
        if self.output.is_none() || size == 0 {
            self.length += padded;
            return Ok(());
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.resize(CHUNK, 0);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(xattr::proc_path(file), flags, Mode::empty());
        let mut source = File::from(opened.map_err(|error| reading(path, error))?);
        let mut left = size;
        while left > 0 {
            let room = left.min(CHUNK as u64) as usize;
            match source.read(&mut chunk[..room]) {
                Ok(0) => break,
                Ok(count) => {
                    self.write(&chunk[..count])?;
                    left -= count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(reading(path, error)),
            }
        }
        chunk.fill(0);
        let mut missing = left + (padded - size);
        while missing > 0 {
            let room = missing.min(CHUNK as u64) as usize;
            self.write(&chunk[..room])?;
            missing -= room as u64;
        }
        self.chunk = chunk;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        if let Some(output) = &mut self.output {
            let written = output.write_all(bytes);
            written.map_err(|error| writing(self.length, error))?;
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Nothing if the directory is gone. Whoever moves directories about meanwhile cannot lead the walk out of `top`.
fn open_again(top: &OwnedFd, path: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match open_below(top.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY, resolve) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}

fn kind_of(stat: &Stat) -> Option<Kind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        _ => return None,
    })
}

fn size_of(stat: &Stat, kind: Kind) -> u64 {
    match kind {
        Kind::File => u64::try_from(stat.st_size).unwrap_or(0),
        _ => 0,
    }
}

fn xattrs_of(file: &OwnedFd, path: &[u8]) -> Result<Vec<Xattr>, ArchiveError> {
    let failed = |error| reading(path, error);
    let proc_path = xattr::proc_path(file);
    let mut xattrs = Vec::new();
    let mut bytes = 0;
    for name in xattr::list(&proc_path).map_err(failed)? {
        if !Xattrs::All.pack(&name) {
            continue;
        }
        let Some(value) = xattr::get(&proc_path, &name).map_err(failed)? else {
            continue;
        };
        bytes += name.len() + value.len();
        if bytes as u64 > pax::MAX_BYTES / 2 {
            return Err(ArchiveError::new(
                ArchiveFailure::InvalidRequest,
                format!("{}: extended attributes of more than 512 KiB", show(path)),
            ));
        }
        xattrs.push((name, value));
    }
    Ok(xattrs)
}

fn reading(path: &[u8], error: impl Into<std::io::Error>) -> ArchiveError {
    ArchiveError::system(format!("reading {}", show(path)), error)
}

fn writing(position: u64, error: std::io::Error) -> ArchiveError {
    let is_full = error.kind() == ErrorKind::WriteZero;
    let failed = ArchiveError::system(format!("writing byte {position} of the archive"), error);
    match is_full {
        true => failed.because(ArchiveFailure::DiskFull),
        false => failed,
    }
}
