//! The agent's way to the object that a copy starts from.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, OFlags, ResolveFlags};

use crate::error::{ArchiveError, ArchiveFailure};
use crate::name::show;
use crate::pack::{PackOptions, pack_file, packed_length};
use crate::tree::open_below;

/// What lies at a path; the fields of `StatPathResponse`.
#[derive(Clone, Debug)]
pub struct PathStat {
    /// Last component of the path as asked for; "." for the root.
    pub name: String,
    pub size: u64,
    /// st_mode, type bits included.
    pub mode: u32,
    pub mtime_s: i64,
    /// Of a symbolic link, as stored.
    pub link_target: String,
    /// Length of the tar `pack_path` would write now.
    pub tar_size_estimate: u64,
}

/// What lies at `path` below `root`. A link at the end is followed only with `follow_link`.
pub fn stat_path(root: &File, path: &Path, follow_link: bool) -> Result<PathStat, ArchiveError> {
    let (top, name) = open_top(root, path, follow_link)?;
    let failed = |error| ArchiveError::system(show(path.as_os_str().as_bytes()), error);
    let stat = rustix::fs::fstat(&top).map_err(failed)?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let link_target = match is_link {
        true => rustix::fs::readlinkat(&top, "", Vec::new())
            .map_err(failed)?
            .to_string_lossy()
            .into_owned(),
        false => String::new(),
    };
    Ok(PathStat {
        name: String::from_utf8_lossy(name).into_owned(),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode,
        mtime_s: stat.st_mtime,
        link_target,
        tar_size_estimate: packed_length(&top, &PackOptions { name, owner: None })?,
    })
}

/// Writes a tar of `path` below `root` to `output` and returns its length in bytes. The entries are named after
/// the last component of `path`, as asked for, or "." for the root.
pub fn pack_path(root: &File, path: &Path, follow_link: bool, output: &mut dyn Write) -> Result<u64, ArchiveError> {
    let (top, name) = open_top(root, path, follow_link)?;
    pack_file(&top, &PackOptions { name, owner: None }, output)
}

/// As `pack_path` of a directory, with entries called "./…".
pub fn pack_content(root: &File, path: &Path, output: &mut dyn Write) -> Result<u64, ArchiveError> {
    let (top, _) = open_top(root, path, true)?;
    let options = PackOptions {
        name: b".",
        owner: None,
    };
    pack_file(&top, &options, output)
}

fn open_top<'p>(root: &File, path: &'p Path, follow_link: bool) -> Result<(OwnedFd, &'p [u8]), ArchiveError> {
    let bytes = path.as_os_str().as_bytes();
    let shown = show(bytes);
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(ArchiveError::new(
            ArchiveFailure::InvalidRequest,
            format!("{shown} is not a path"),
        ));
    }
    let flags = match follow_link {
        true => OFlags::PATH,
        false => OFlags::PATH | OFlags::NOFOLLOW,
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let top = open_below(root, bytes, flags, resolve).map_err(|error| ArchiveError::system(shown, error))?;
    Ok((top, base_name(bytes)))
}

/// The last component of `path` that names something.
pub fn base_name(path: &[u8]) -> &[u8] {
    let mut components = path.split(|&byte| byte == b'/');
    match components.rfind(|component| !matches!(*component, b"" | b".")) {
        None | Some(b"..") => b".",
        Some(name) => name,
    }
}
