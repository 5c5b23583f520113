//! Places inside a root that is not trusted: no link in it leads out.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};

/// What runc gives what it makes to mount on.
const MODE: Mode = Mode::from_bits_truncate(0o755);

/// `path` as a process whose root is `root` would see it.
pub fn open_in(root: &impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(
        root.as_fd(),
        if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        },
        how,
    )
}

/// Opens `path` in `root`; what is missing of it is made.
pub fn make_in(root: &impl AsFd, path: &Path, is_directory: bool) -> Result<OwnedFd, Errno> {
    let names: Vec<_> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .collect();
    let mut so_far = PathBuf::new();
    let mut place = open_in(root, &so_far, OFlag::O_PATH)?;
    for (index, name) in names.iter().enumerate() {
        so_far.push(name);
        let found = open_in(root, &so_far, OFlag::O_PATH);
        place = match found {
            Err(Errno::ENOENT) => {
                let name = Path::new(name);
                if is_directory || index + 1 < names.len() {
                    mkdirat(&place, name, MODE)?;
                } else {
                    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                    openat(&place, name, flags, MODE)?;
                }
                open_in(root, &so_far, OFlag::O_PATH)?
            }
            found => found?,
        };
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn makes_what_is_missing_and_never_outside() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir(&root).unwrap();
        symlink("/elsewhere", root.join("link")).unwrap();
        fs::create_dir(root.join("elsewhere")).unwrap();
        let opened = File::open(&root).unwrap();
        make_in(&opened, Path::new("/a/b"), true).unwrap();
        make_in(&opened, Path::new("/a/c/file"), false).unwrap();
        make_in(&opened, Path::new("/link/below"), true).unwrap();
        make_in(&opened, Path::new("/../../up"), true).unwrap();
        assert!(root.join("a/b").is_dir());
        assert!(root.join("a/c/file").is_file());
        assert!(root.join("elsewhere/below").is_dir());
        assert!(root.join("up").is_dir());
        assert!(!place.path().join("up").exists());
    }
}
