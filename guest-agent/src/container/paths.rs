//! Walking paths of a container: always beneath its root, links included, never through a magic link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// Links to targets that do not exist yet, followed while a path is being made.
const MAX_DANGLING_LINKS: usize = 8;

/// Opens `path` as a process whose root is `root` would.
pub fn open_in(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let relative = relative(path);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        // EAGAIN: something was renamed while ".." was walked, the kernel could not tell whether we are still inside.
        match rustix::fs::openat2(root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// The directory at `path`, made with its parents where missing.
pub fn make_directory(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd> {
    make(root, path, MAX_DANGLING_LINKS, Kind::Directory(mode))
}

/// What is at `path`: an empty file, made with its parents, when there is nothing.
pub fn make_file(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    make(root, path, MAX_DANGLING_LINKS, Kind::File)
}

/// The directory that holds the last component of `path`, made where missing, and that component.
pub fn make_parent<'a>(root: BorrowedFd<'_>, path: &'a Path) -> Result<(OwnedFd, &'a OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = make_directory(
        root,
        path.parent().unwrap_or(Path::new("/")),
        Mode::from_raw_mode(0o755),
    )?;
    Ok((parent, name))
}

#[derive(Clone, Copy)]
enum Kind {
    Directory(Mode),
    File,
}

fn make(root: BorrowedFd<'_>, path: &Path, links_left: usize, kind: Kind) -> Result<OwnedFd> {
    let flags = match kind {
        Kind::Directory(_) => OFlags::PATH | OFlags::DIRECTORY,
        Kind::File => OFlags::PATH,
    };
    match open_in(root, path, flags) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let name = path.file_name().ok_or(Errno::NOENT)?;
    let parent_path = path.parent().unwrap_or(Path::new("/"));
    let parent = make(
        root,
        parent_path,
        links_left,
        Kind::Directory(Mode::from_raw_mode(0o755)),
    )?;
    let made = match kind {
        Kind::Directory(mode) => rustix::fs::mkdirat(&parent, name, mode),
        Kind::File => {
            let mode = Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(&parent, name, rustix::fs::FileType::RegularFile, mode, 0)
        }
    };
    match made {
        Ok(()) => rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()),
        Err(Errno::EXIST) if links_left > 0 => {
            let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
            let target: PathBuf = parent_path.join(OsStr::from_bytes(target.as_bytes()));
            make(root, &target, links_left - 1, kind)
        }
        Err(error) => Err(error),
    }
}

/// openat2 with IN_ROOT takes absolute paths as well, but not the empty one.
fn relative(path: &Path) -> &Path {
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    }
}

/// Whether `fd` lies on a file system of the given type.
pub fn is_on(fd: impl AsFd, magic: i64) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type == magic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> (Self, OwnedFd) {
            let path = std::env::temp_dir().join(format!("hrun-agent-paths-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("root")).unwrap();
            let root = rustix::fs::open(path.join("root"), OFlags::PATH, Mode::empty()).unwrap();
            (Self(path), root)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn makes_missing_directories_and_files() {
        let (scratch, root) = Scratch::new("plain");
        make_file(root.as_fd(), Path::new("/a/b/c")).unwrap();
        assert!(scratch.0.join("root/a/b/c").is_file());
        make_directory(root.as_fd(), Path::new("/a/b/d"), Mode::from_raw_mode(0o700)).unwrap();
        assert!(scratch.0.join("root/a/b/d").is_dir());
    }

    #[test]
    fn never_leaves_the_root() {
        let (scratch, root) = Scratch::new("escape");
        symlink("../../../outside", scratch.0.join("root/up")).unwrap();
        symlink("/outside", scratch.0.join("root/absolute")).unwrap();
        make_directory(root.as_fd(), Path::new("/up/x"), Mode::from_raw_mode(0o755)).unwrap();
        make_file(root.as_fd(), Path::new("/absolute/y")).unwrap();
        make_file(root.as_fd(), Path::new("/../../z")).unwrap();
        assert!(scratch.0.join("root/outside/x").is_dir());
        assert!(scratch.0.join("root/outside/y").is_file());
        assert!(scratch.0.join("root/z").is_file());
        assert!(!scratch.0.join("outside").exists());
    }

    #[test]
    fn gives_up_on_links_in_circles() {
        let (scratch, root) = Scratch::new("circle");
        symlink("b", scratch.0.join("root/a")).unwrap();
        symlink("a", scratch.0.join("root/b")).unwrap();
        assert_eq!(make_file(root.as_fd(), Path::new("/a/x")).unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn refuses_magic_links() {
        let proc = rustix::fs::open("/proc", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(
            open_in(proc.as_fd(), Path::new("/self/root"), OFlags::PATH).unwrap_err(),
            Errno::LOOP
        );
    }
}
