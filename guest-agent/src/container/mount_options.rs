//! Mount options as in the OCI runtime-spec: what they set on the mount, and what is left for the file system.

use crate::contract::FailureReason;
use crate::failure::{Failure, Result};
use crate::sys::MountAttr;

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

pub const READ_ONLY: MountAttr = MountAttr {
    set: RDONLY,
    clear: 0,
    propagation: 0,
    userns_fd: 0,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// For this mount alone.
    pub attr: MountAttr,
    /// For this mount and all below it: "rro", "rnosuid", …
    pub recursive_attr: MountAttr,
    pub propagation: u64,
    pub recursive_propagation: u64,
    /// A bind takes the mounts below its source along.
    pub recursive_bind: bool,
    /// A tmpfs starts with what was at its destination.
    pub copy_up: bool,
    /// Flags that every file system has as such; a bind has none of its own.
    pub superblock: Vec<String>,
    /// key or key=value, for the file system itself.
    pub data: Vec<String>,
    /// Of a mount point that has to be made: "mode=" of a tmpfs.
    pub directory_mode: Option<u32>,
}

/// What happens to mounts made below it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    pub kind: u64,
    pub recursive: bool,
}

impl Propagation {
    /// Of the root; nothing said means "rprivate".
    pub fn parse(name: &str) -> Result<Self> {
        if name.is_empty() {
            return Ok(Self {
                kind: libc::MS_PRIVATE,
                recursive: true,
            });
        }
        Self::of(name).ok_or_else(|| Failure::invalid(format!("rootfsPropagation={name} is not supported")))
    }

    fn of(name: &str) -> Option<Self> {
        let kind = |name: &str| match name {
            "shared" => Some(libc::MS_SHARED),
            "slave" => Some(libc::MS_SLAVE),
            "private" => Some(libc::MS_PRIVATE),
            "unbindable" => Some(libc::MS_UNBINDABLE),
            _ => None,
        };
        let made = |kind, recursive| Self { kind, recursive };
        let deep = || name.strip_prefix('r').and_then(kind).map(|kind| made(kind, true));
        kind(name).map(|kind| made(kind, false)).or_else(deep)
    }
}

impl MountOptions {
    pub fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        options.iter().try_for_each(|option| parsed.add(option))?;
        Ok(parsed)
    }

    fn add(&mut self, option: &str) -> Result<()> {
        if let Some((set, clear)) = attribute(option) {
            apply(&mut self.attr, set, clear);
            return Ok(());
        }
        if let Some((set, clear)) = option.strip_prefix('r').and_then(attribute) {
            apply(&mut self.recursive_attr, set, clear);
            return Ok(());
        }
        if let Some(Propagation { kind, recursive }) = Propagation::of(option) {
            let field = if recursive {
                &mut self.recursive_propagation
            } else {
                &mut self.propagation
            };
            *field = kind;
            return Ok(());
        }
        match option {
            // What the kernel does anyway, or what has no effect on any file system that a container mounts.
            "" | "bind" | "defaults" | "silent" | "loud" | "async" | "nomand" | "mand" | "iversion" | "noiversion"
            | "nolazytime" | "acl" | "noacl" => {}
            "sync" | "dirsync" | "lazytime" => self.superblock.push(option.to_owned()),
            "idmap" | "ridmap" | "remount" => {
                let message = format!("the mount option {option} is not supported");
                return Err(Failure::new(FailureReason::Unsupported, message));
            }
            "rbind" => self.recursive_bind = true,
            "tmpcopyup" => self.copy_up = true,
            data => {
                let mode = data.strip_prefix("mode=");
                self.directory_mode = mode
                    .and_then(|mode| u32::from_str_radix(mode, 8).ok())
                    .or(self.directory_mode);
                self.data.push(data.to_owned());
            }
        }
        Ok(())
    }
}

/// The later of two contradicting options wins.
fn apply(attr: &mut MountAttr, set: u64, clear: u64) {
    attr.set = attr.set & !clear | set;
    // The access time setting is one field of three values: to change it, all of it must be cleared.
    let field = if (set | clear) & ATIME != 0 { ATIME } else { 0 };
    attr.clear = attr.clear & !set | clear | field;
}

/// Bits to set and to clear.
fn attribute(option: &str) -> Option<(u64, u64)> {
    Some(match option {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        "noatime" => (NOATIME, ATIME),
        "strictatime" => (STRICTATIME, ATIME),
        // relatime is the field's zero.
        "relatime" | "norelatime" | "atime" | "nostrictatime" => (0, ATIME),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        MountOptions::parse(&options.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn tells_flags_from_data() {
        let options = parse(&["nosuid", "noexec", "mode=1777", "size=65536k", "nr_inodes=1k"]);
        assert_eq!(options.attr.set, NOSUID | NOEXEC);
        assert_eq!(options.data, ["mode=1777", "size=65536k", "nr_inodes=1k"]);
    }

    #[test]
    fn the_later_of_two_opposites_wins() {
        assert_eq!(
            parse(&["ro", "rw"]).attr,
            MountAttr {
                clear: RDONLY,
                ..MountAttr::default()
            }
        );
        assert_eq!(
            parse(&["rw", "ro"]).attr,
            MountAttr {
                set: RDONLY,
                ..MountAttr::default()
            }
        );
        let times = parse(&["noatime", "strictatime"]).attr;
        assert_eq!((times.set, times.clear), (STRICTATIME, ATIME));
    }

    #[test]
    fn knows_how_mounts_propagate() {
        let of = |name: &str| Propagation::parse(name).map(|found| (found.kind, found.recursive));
        assert_eq!(of("").unwrap(), (libc::MS_PRIVATE, true));
        assert_eq!(of("slave").unwrap(), (libc::MS_SLAVE, false));
        assert_eq!(of("rshared").unwrap(), (libc::MS_SHARED, true));
        assert!(of("everywhere").is_err());
        let both = parse(&["shared", "runbindable"]);
        assert_eq!(both.propagation, libc::MS_SHARED);
        assert_eq!(both.recursive_propagation, libc::MS_UNBINDABLE);
    }

    #[test]
    fn knows_what_is_for_the_file_system_as_a_whole() {
        let options = parse(&["sync", "noacl", "mode=1777", "norelatime", "rnorelatime", "rsuid"]);
        assert_eq!(
            (options.superblock, options.data),
            (vec!["sync".to_owned()], vec!["mode=1777".to_owned()])
        );
        assert_eq!(options.directory_mode, Some(0o1777));
        assert!(MountOptions::parse(&["idmap".to_owned()]).is_err());
    }

    #[test]
    fn knows_the_recursive_forms() {
        let options = parse(&["rbind", "rro", "rslave", "relatime"]);
        assert!(options.recursive_bind);
        assert_eq!(options.recursive_attr.set, RDONLY);
        assert_eq!(options.recursive_propagation, libc::MS_SLAVE);
        assert_eq!(options.attr.clear, ATIME);
        assert!(options.data.is_empty());
    }
}
