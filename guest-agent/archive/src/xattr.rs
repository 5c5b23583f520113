//! Extended attributes: which ones travel, and setting them on any kind of file.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Name and value.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// Which attributes an archive may bring or take along.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Xattrs {
    /// Everything that describes the file. Not `trusted.overlay.*`: on a lower or upper directory it would
    /// steer the overlay itself.
    All,
    /// What an untrusted archive may set on a host.
    UserAndCapability,
    User,
}

impl Xattrs {
    pub fn keep(self, name: &[u8]) -> bool {
        let is_user = name.starts_with(b"user.");
        let is_capability = name == b"security.capability";
        match self {
            Self::All => !name.starts_with(b"trusted.overlay."),
            Self::UserAndCapability => is_user || is_capability,
            Self::User => is_user,
        }
    }

    /// Labels of a security module belong to the system they were made on.
    pub fn pack(self, name: &[u8]) -> bool {
        let is_label = name.starts_with(b"security.") && name != b"security.capability";
        self.keep(name) && !is_label
    }
}

/// The name by which calls that refuse an O_PATH descriptor reach exactly its file, links included.
pub(crate) fn proc_path(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// Sets one attribute through `path`, a `proc_path`. What the file system or the kind of file cannot hold is left
/// out, as Docker does: labels without the security module, `user.` on a link.
pub(crate) fn set(path: &str, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    match rustix::fs::setxattr(path, name, value, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        done => done,
    }
}

/// The names of all attributes behind `path`, sorted.
pub(crate) fn list(path: &str) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = vec![0; 1024];
    let length = loop {
        match rustix::fs::listxattr(path, buffer.as_mut_slice()) {
            Err(Errno::RANGE) if buffer.len() < MAX_LIST => buffer = vec![0; MAX_LIST],
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            length => break length?,
        }
    };
    let names = buffer[..length].split(|&byte| byte == 0);
    let mut names: Vec<_> = names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    names.sort();
    Ok(names)
}

/// The value of an attribute; nothing if it went away.
pub(crate) fn get(path: &str, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = vec![0; 1024];
    loop {
        match rustix::fs::getxattr(path, name, buffer.as_mut_slice()) {
            Err(Errno::RANGE) if buffer.len() < MAX_VALUE => buffer = vec![0; MAX_VALUE],
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            length => {
                buffer.truncate(length?);
                return Ok(Some(buffer));
            }
        }
    }
}

/// Removes what `keep` names and `wanted` does not: a directory entry describes the whole directory.
pub(crate) fn drop_others(path: &str, keep: Xattrs, wanted: &[Xattr]) -> Result<(), Errno> {
    for name in list(path)? {
        if keep.pack(&name) && !wanted.iter().any(|(known, _)| *known == name) {
            rustix::fs::removexattr(path, name.as_slice())?;
        }
    }
    Ok(())
}

/// XATTR_LIST_MAX and XATTR_SIZE_MAX.
const MAX_LIST: usize = 65536;
const MAX_VALUE: usize = 65536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_cannot_steer_the_overlay_or_the_security_of_a_host() {
        for (name, all, archive, user) in [
            ("user.x", true, true, true),
            ("security.capability", true, true, false),
            ("security.selinux", true, false, false),
            ("trusted.x", true, false, false),
            ("trusted.overlay.opaque", false, false, false),
            ("trusted.overlay.overlay.x", false, false, false),
            ("system.posix_acl_access", true, false, false),
        ] {
            let name = name.as_bytes();
            assert_eq!(Xattrs::All.keep(name), all);
            assert_eq!(Xattrs::UserAndCapability.keep(name), archive);
            assert_eq!(Xattrs::User.keep(name), user);
        }
        assert!(!Xattrs::All.pack(b"security.selinux"));
        assert!(Xattrs::All.pack(b"security.capability"));
    }
}
