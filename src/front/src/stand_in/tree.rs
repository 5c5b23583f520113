use std::fs::{DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{chdir, getegid, geteuid, pivot_root};

use super::owners::IdMap;
use super::points::{make_in, open_in};
use super::request::{MountPoint, PointKind, Request, Share, Trouble, Why, invalid};
use crate::mounts;

const NONE: Option<&str> = None;

/// The one tree that the guest sees of the caller's files, in a mount namespace of its own.
pub struct Tree {
    path: PathBuf,
    names: Vec<String>,
    root: Option<String>,
}

impl Tree {
    /// Leaves the caller's mount namespace and builds the tree over `at`, a directory that nobody here needs any more.
    pub fn build(at: &Path, request: &Request) -> Result<Tree, Trouble> {
        leave_namespace()?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).why("cannot make its mounts private")?;
        let path = at.canonicalize().why_of("cannot use", at)?;
        let shares = &request.shares;
        // Before the tree hides what may lie below its place; in the new namespace, which alone may copy its mounts.
        let sources = shares.iter().map(Source::open).collect::<Result<Vec<_>, _>>()?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some("hrun"),
            &path,
            Some("tmpfs"),
            flags,
            Some("mode=0755,size=1m,nr_inodes=2048"),
        )
        .why_of("cannot mount a tmpfs on", &path)?;
        let maps = sources
            .iter()
            .map(|source| source.share.id_map.as_ref().map(IdMap::namespace).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        for (source, map) in sources.iter().zip(&maps) {
            if request.root.as_ref() == Some(&source.share.name) {
                make_points(&source.file, &request.mount_points, &sources);
            }
            source.attach(&path.join(&source.share.name), map.as_ref())?;
        }
        let readonly = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(NONE, &path, NONE, readonly, NONE).why("cannot make the tree read-only")?;
        Ok(Tree {
            path,
            names: shares.iter().map(|share| share.name.clone()).collect(),
            root: request.root.clone(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// For who joins this mount namespace (podman cp and top): the shares where the container has them, and a proc. The
    /// share server has its own copy of the namespace and sees nothing of it. What cannot be mounted is left out.
    pub fn furnish(&self, shares: &[Share]) {
        let Some(root) = &self.root else { return };
        let Ok(root) = open(&self.path.join(root), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) else {
            return;
        };
        let proc = Path::new("proc");
        if open_in(&root, proc, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).is_ok() {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            let target = self.path.join(self.root.as_deref().unwrap_or_default()).join(proc);
            let _ = mount(Some("proc"), &target, Some("proc"), flags, NONE);
        }
        for share in shares {
            let Some(at) = &share.at else { continue };
            let source = self.path.join(&share.name);
            let placed = open(&source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).and_then(|source| {
                let target = make_in(&root, at, source_is_directory(&source)?)?;
                mounts::attach_on(&mounts::copy_tree(&source, true)?, &target)
            });
            // Below what only the guest mounts there is nothing to mount on.
            let _ = placed;
        }
    }

    /// Lets go of every mount but the tree's, or the root's, so that nothing else of the caller stays busy. Below a
    /// chroot or an initramfs the kernel does not allow it; then they stay.
    pub fn become_root(&self) {
        let top = match &self.root {
            Some(root) => self.path.join(root),
            None => self.path.clone(),
        };
        let done = chdir(&top).and_then(|()| pivot_here());
        let _ = done.and(chdir("/"));
    }

    /// Removes the binds. Whoever else is in this namespace loses them too.
    pub fn remove(self) {
        if self.root.is_some() {
            // "/" itself is what must go. A path that starts at "/" does not see what is mounted over it, ".." does.
            let emptied = mount(
                Some("hrun"),
                "/",
                Some("tmpfs"),
                MsFlags::MS_RDONLY,
                Some("size=4k,mode=0555"),
            )
            .and_then(|()| chdir("/.."))
            .and_then(|()| pivot_here());
            let _ = emptied.and(chdir("/"));
        }
        for name in &self.names {
            // One of the two is where the tree is now.
            for place in [Path::new("/"), &self.path] {
                let _ = umount2(&place.join(name), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            }
        }
    }
}

/// Makes the working directory, where something is mounted, the root of the namespace and lets go of the old one.
fn pivot_here() -> Result<(), Errno> {
    pivot_root(".", ".").and_then(|()| umount2(".", MntFlags::MNT_DETACH))
}

/// A user who may not do so otherwise does it in a user namespace in which there is nobody but him.
fn leave_namespace() -> Result<(), Trouble> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Err(Errno::EPERM) => {}
        result => return result.why("cannot have a mount namespace of its own"),
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).why("cannot have namespaces of its own")?;
    std::fs::write("/proc/self/setgroups", "deny").why("cannot give up supplementary groups")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).why("cannot map its user")?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).why("cannot map its group")
}

/// What cannot be made here cannot be mounted on by the guest either, which says so with more knowledge.
fn make_points(root: &OwnedFd, points: &[MountPoint], sources: &[Source<'_>]) {
    for MountPoint { path, kind } in points {
        let is_directory = match kind {
            PointKind::Directory => true,
            PointKind::File => false,
            PointKind::AsShare(name) => sources
                .iter()
                .any(|source| source.share.name == *name && source.is_directory),
        };
        let _ = make_in(root, path, is_directory);
    }
}

struct Source<'a> {
    share: &'a Share,
    file: OwnedFd,
    is_directory: bool,
}

impl Source<'_> {
    fn open(share: &Share) -> Result<Source<'_>, Trouble> {
        let path = &share.path;
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let file = match open(path, flags, Mode::empty()) {
            Err(Errno::ENOENT) if share.create => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(path)
                    .why_of("cannot create", path)?;
                open(path, flags, Mode::empty())
            }
            result => result,
        };
        let file = file.why_of("cannot share", path)?;
        let found = fstat(&file).why_of("cannot share", path)?;
        let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFDIR && kind != SFlag::S_IFREG {
            return Err(invalid(format!(
                "cannot share {}: it is neither a directory nor a regular file",
                path.display()
            )));
        }
        Ok(Source {
            share,
            file,
            is_directory: kind == SFlag::S_IFDIR,
        })
    }

    /// `map`: the user namespace that says how its owners are shown.
    fn attach(&self, target: &Path, map: Option<&File>) -> Result<(), Trouble> {
        let named = |error: std::io::Result<()>| error.why_of("cannot share", &self.share.path);
        match self.is_directory {
            true => named(DirBuilder::new().mode(0o755).create(target))?,
            false => named(File::create_new(target).map(drop))?,
        }
        match (map, &self.share.id_map) {
            (Some(map), Some(IdMap { recursive, .. })) => self
                .bind_mapped(target, map, *recursive)
                .why_of("cannot map the owners (idmap) of", &self.share.path),
            _ => self.bind(target).why_of("cannot share", &self.share.path),
        }
    }

    /// Without a way for kernels that lack the calls: they cannot map owners either.
    fn bind_mapped(&self, target: &Path, map: &File, recursive: bool) -> Result<(), Errno> {
        let copy = mounts::copy_tree(&self.file, self.share.recursive)?;
        mounts::map_owners(&copy, map, recursive)?;
        mounts::restrict(&copy, self.share.readonly)?;
        mounts::attach(&copy, target)
    }

    fn bind(&self, target: &Path) -> Result<(), Errno> {
        let Share {
            readonly, recursive, ..
        } = *self.share;
        match mounts::copy_tree(&self.file, recursive) {
            Ok(copy) => match mounts::restrict(&copy, readonly) {
                Ok(()) => mounts::attach(&copy, target),
                Err(error) if mounts::is_missing(error) => {
                    mounts::attach(&copy, target)?;
                    mounts::restrict_each(target, readonly)
                }
                Err(error) => Err(error),
            },
            Err(error) if mounts::is_missing(error) => self.bind_the_old_way(target),
            Err(error) => Err(error),
        }
    }

    fn bind_the_old_way(&self, target: &Path) -> Result<(), Errno> {
        mounts::bind(&self.file, target, self.share.recursive)?;
        mounts::restrict_each(target, self.share.readonly)
    }
}

fn source_is_directory(source: &OwnedFd) -> Result<bool, Errno> {
    let kind = SFlag::from_bits_truncate(fstat(source)?.st_mode) & SFlag::S_IFMT;
    Ok(kind == SFlag::S_IFDIR)
}
