//! Mounts by descriptor, with the old calls where a kernel or a seccomp filter refuses the new ones.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

const NONE: Option<&str> = None;

/// A detached copy of what lies at `source`; `recursive`: with everything mounted below it.
pub fn copy_tree(source: &impl AsFd, recursive: bool) -> Result<OwnedFd, Errno> {
    let depth = if recursive { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | (libc::AT_EMPTY_PATH | depth) as u32;
    // SAFETY: the empty path is a C string; the result is a new descriptor.
    unsafe {
        let fd = libc::syscall(libc::SYS_open_tree, source.as_fd().as_raw_fd(), c"".as_ptr(), flags);
        Ok(OwnedFd::from_raw_fd(Errno::result(fd)? as i32))
    }
}

pub fn attach(tree: &OwnedFd, target: &Path) -> Result<(), Errno> {
    let target = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: both paths are C strings that live through the call.
    let done = unsafe {
        let empty = c"".as_ptr();
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            empty,
            libc::AT_FDCWD,
            target.as_ptr(),
            flags,
        )
    };
    Errno::result(done).map(drop)
}

/// As `attach`, where the target is a descriptor.
pub fn attach_on(tree: &OwnedFd, target: &impl AsFd) -> Result<(), Errno> {
    // SAFETY: both paths are empty C strings; the descriptors live through the call.
    let done = unsafe {
        let empty = c"".as_ptr();
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        let target = target.as_fd().as_raw_fd();
        libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), empty, target, empty, flags)
    };
    Errno::result(done).map(drop)
}

/// nosuid and nodev, and read-only if asked, for a tree and all mounts in it.
pub fn restrict(tree: &OwnedFd, readonly: bool) -> Result<(), Errno> {
    let only = if readonly { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | only,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    set_attributes(tree, &attributes, true)
}

/// Shows the owners of files as a user namespace maps them: inside are the ids of the file system. The tree must be nowhere yet.
pub fn map_owners(tree: &OwnedFd, namespace: &impl AsRawFd, recursive: bool) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    set_attributes(tree, &attributes, recursive)
}

fn set_attributes(tree: &OwnedFd, attributes: &libc::mount_attr, recursive: bool) -> Result<(), Errno> {
    let depth = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure has the size that is given and lives through the call.
    let done = unsafe {
        let (empty, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH | depth);
        let size = size_of::<libc::mount_attr>();
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty,
            flags,
            attributes as *const libc::mount_attr,
            size,
        )
    };
    Errno::result(done).map(drop)
}

/// The kernel, or a filter, does not know the call.
pub fn is_missing(error: Errno) -> bool {
    matches!(error, Errno::ENOSYS | Errno::EPERM)
}

/// A bind of `source` (from `O_PATH`) the old way.
pub fn bind(source: &impl AsFd, target: &Path, recursive: bool) -> Result<(), Errno> {
    let depth = if recursive { MsFlags::MS_REC } else { MsFlags::empty() };
    let source = format!("/proc/self/fd/{}", source.as_fd().as_raw_fd());
    mount(Some(source.as_str()), target, NONE, MsFlags::MS_BIND | depth, NONE)
}

/// What `restrict` does, mount by mount, at `target`.
pub fn restrict_each(target: &Path, readonly: bool) -> Result<(), Errno> {
    let table = std::fs::read("/proc/thread-self/mountinfo").map_err(|_| Errno::ENOENT)?;
    for (point, flags) in mounts_below(&table, target) {
        let only = if readonly { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        let flags = flags | only | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        mount(NONE, &point, NONE, flags, NONE)?;
    }
    Ok(())
}

/// Mount points at and below `target`, with the flags that a remount would otherwise clear.
fn mounts_below(mountinfo: &[u8], target: &Path) -> Vec<(PathBuf, MsFlags)> {
    let of_line = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b' ').skip(4);
        let point = unescaped(fields.next()?);
        point.starts_with(target).then_some(())?;
        let mut flags = MsFlags::empty();
        for option in fields.next()?.split(|&byte| byte == b',') {
            flags |= match option {
                b"ro" => MsFlags::MS_RDONLY,
                b"nosuid" => MsFlags::MS_NOSUID,
                b"nodev" => MsFlags::MS_NODEV,
                b"noexec" => MsFlags::MS_NOEXEC,
                b"noatime" => MsFlags::MS_NOATIME,
                b"nodiratime" => MsFlags::MS_NODIRATIME,
                b"relatime" => MsFlags::MS_RELATIME,
                _ => MsFlags::empty(),
            };
        }
        Some((point, flags))
    };
    mountinfo.split(|&byte| byte == b'\n').filter_map(of_line).collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut out = Vec::new();
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = match rest {
            [b'\\', digits @ ..] => digits
                .get(..3)
                .and_then(|text| u8::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok()),
            _ => None,
        };
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &rest[4..] } else { tail };
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mounts_of_a_tree_with_their_flags() {
        let table = b"1 0 0:1 / / rw,relatime - ext4 /dev/a rw\n\
            2 1 0:2 / /tree/one\\040two rw,nosuid,noexec,noatime shared:3 - tmpfs t rw\n\
            3 1 0:2 / /tree ro,nodev - tmpfs t rw\n\
            4 1 0:2 / /treetop rw - tmpfs t rw\n";
        let found = mounts_below(table, Path::new("/tree"));
        let first = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
        let second = MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
        assert_eq!(
            found,
            [
                (PathBuf::from("/tree/one two"), first),
                (PathBuf::from("/tree"), second)
            ]
        );
    }

    /// What is done where open_tree and mount_setattr are refused. In a thread of its own, which has its own mounts.
    #[test]
    fn binds_and_restricts_the_old_way_too() {
        use nix::sched::{CloneFlags, unshare};
        use std::fs::{self, File};

        let place = tempfile::tempdir().unwrap();
        let (source, target) = (place.path().join("source dir"), place.path().join("target dir"));
        let tested = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
            fs::create_dir_all(source.join("nested")).unwrap();
            fs::create_dir(&target).unwrap();
            mount(
                Some("t"),
                &source.join("nested"),
                Some("tmpfs"),
                MsFlags::MS_NOEXEC,
                NONE,
            )
            .unwrap();
            bind(&File::open(&source).unwrap(), &target, true).unwrap();
            fs::write(target.join("nested/before"), "").unwrap();
            restrict_each(&target, true).unwrap();
            for path in ["after", "nested/after"] {
                let error = fs::write(target.join(path), "").unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{path}");
            }
            let table = fs::read("/proc/thread-self/mountinfo").unwrap();
            let all = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            let found = mounts_below(&table, &target);
            assert_eq!(found.len(), 2);
            assert!(found.iter().all(|(_, flags)| flags.contains(all)));
            assert!(found[1].1.contains(MsFlags::MS_NOEXEC));
            fs::write(source.join("nested/still"), "").unwrap();
        });
        tested.join().unwrap();
    }

    #[test]
    fn undoes_the_escapes_of_the_kernel() {
        assert_eq!(unescaped(br"/a\040b\134\011\012c\04"), PathBuf::from("/a b\\\t\nc\\04"));
    }
}
