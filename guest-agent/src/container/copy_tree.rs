//! Copies a directory's content inside the guest: owners, modes, times, extended attributes, hard links, special files.
//! Both trees may be hostile: everything is reached by descriptors, no link is followed.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::{Errno, Result};

/// Deeper trees are refused rather than letting them exhaust the stack.
const MAX_DEPTH: usize = 512;
/// The kernel's own limits (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_MAX: usize = 65536;

/// Where the first link to a file with several was put: its directory, as a descriptor, and its name.
type Links = HashMap<(u64, u64), (std::rc::Rc<OwnedFd>, std::ffi::CString)>;

/// Copies everything below `source` into `target`.
pub fn copy_tree(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    copy_directory(reopen(source)?, reopen(target)?, 0, &mut Links::new())
}

/// Owner, mode, times and extended attributes of one directory or file.
pub fn copy_attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let stat = rustix::fs::fstat(source)?;
    rustix::fs::fchown(
        target,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(source, target)?;
    rustix::fs::futimens(target, &times(&stat))
}

/// Removes `name` below `parent` with all it holds; nothing there is fine.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        Err(Errno::NOENT) => return Ok(()),
        done => return done,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in names(directory.as_fd())? {
        use std::os::unix::ffi::OsStrExt;
        remove_tree(directory.as_fd(), OsStr::from_bytes(entry.to_bytes()))?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn copy_directory(source: OwnedFd, target: OwnedFd, depth: usize, links: &mut Links) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let target = std::rc::Rc::new(target);
    for name in names(source.as_fd())? {
        copy_entry(source.as_fd(), &target, &name, depth, links)?;
    }
    Ok(())
}

fn copy_entry(
    source: BorrowedFd<'_>,
    target: &std::rc::Rc<OwnedFd>,
    name: &CStr,
    depth: usize,
    links: &mut Links,
) -> Result<()> {
    let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if stat.st_nlink > 1 && !kind.is_dir() {
        if let Some((directory, first)) = links.get(&(stat.st_dev, stat.st_ino)) {
            return rustix::fs::linkat(
                directory.as_fd(),
                first.as_c_str(),
                target.as_fd(),
                name,
                AtFlags::empty(),
            );
        }
        links.insert(
            (stat.st_dev, stat.st_ino),
            (std::rc::Rc::clone(target), name.to_owned()),
        );
    }
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700))?;
            let (from, to) = (
                open_entry(source, name, OFlags::DIRECTORY)?,
                open_entry(target.as_fd(), name, OFlags::DIRECTORY)?,
            );
            copy_directory(reopen(from.as_fd())?, reopen(to.as_fd())?, depth + 1, links)?;
            copy_attributes(from.as_fd(), to.as_fd())
        }
        FileType::RegularFile => {
            let from = open_entry(source, name, OFlags::NONBLOCK)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let to = rustix::fs::openat(target, name, flags, Mode::from_raw_mode(0o600))?;
            copy_content(from.as_fd(), to.as_fd())?;
            copy_attributes(from.as_fd(), to.as_fd())
        }
        FileType::Symlink => {
            let to = rustix::fs::readlinkat(source, name, Vec::new())?;
            rustix::fs::symlinkat(to.as_c_str(), target, name)?;
            own(target.as_fd(), name, &stat)
        }
        _ => {
            rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev)?;
            own(target.as_fd(), name, &stat)?;
            rustix::fs::chmodat(target, name, mode, AtFlags::empty())
        }
    }
}

fn own(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn copy_content(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let length = rustix::io::read(source, &mut buffer[..])?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            rest = &rest[rustix::io::write(target, rest)?..];
        }
    }
}

fn copy_xattrs(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let mut list = vec![0u8; XATTR_MAX];
    let length = match rustix::fs::flistxattr(source, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        listed => listed?,
    };
    let mut value = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        value.resize(XATTR_MAX, 0u8);
        let size = rustix::fs::fgetxattr(source, name, &mut value[..])?;
        match rustix::fs::fsetxattr(target, name, &value[..size], XattrFlags::empty()) {
            // A tmpfs has no user.* attributes on older kernels.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as i64,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as i64,
        },
    }
}

fn names(directory: BorrowedFd<'_>) -> Result<Vec<std::ffi::CString>> {
    let entries = rustix::fs::Dir::read_from(directory)?;
    entries
        .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
        .filter(|name| !matches!(name.as_deref().map(CStr::to_bytes), Ok(b"." | b"..")))
        .collect()
}

fn open_entry(directory: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// A readable descriptor of its own for a directory that may have been opened as a path only.
fn reopen(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, c".", flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn keeps_modes_links_and_names() {
        let base = std::env::temp_dir().join(format!("hrun-agent-copy-{}", std::process::id()));
        let (from, to) = (base.join("from"), base.join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(from.join("sub/file"), "content").unwrap();
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(from.join("sub/file"), from.join("twin")).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o1777)).unwrap();

        let open = |path: &std::path::Path| rustix::fs::open(path, OFlags::PATH, Mode::empty()).unwrap();
        copy_tree(open(&from).as_fd(), open(&to).as_fd()).unwrap();

        assert_eq!(fs::read(to.join("twin")).unwrap(), b"content");
        assert_eq!(fs::metadata(to.join("sub/file")).unwrap().mode() & 0o7777, 0o4751);
        assert_eq!(fs::metadata(to.join("sub")).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(
            fs::metadata(to.join("twin")).unwrap().ino(),
            fs::metadata(to.join("sub/file")).unwrap().ino()
        );
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            std::path::Path::new("/etc/passwd")
        );

        remove_tree(open(&base).as_fd(), OsStr::new("to")).unwrap();
        assert!(!to.exists());
        fs::remove_dir_all(&base).unwrap();
    }
}
