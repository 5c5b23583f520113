//! Mount options as in the OCI runtime-spec: what they set on the mount, and what is left for the file system.

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
    /// key or key=value, for the file system itself.
    pub data: Vec<String>,
}

impl MountOptions {
    pub fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        if let Some((set, clear)) = attribute(option) {
            apply(&mut self.attr, set, clear);
            return;
        }
        if let Some((set, clear)) = option.strip_prefix('r').and_then(attribute) {
            apply(&mut self.recursive_attr, set, clear);
            return;
        }
        match option {
            "bind" | "defaults" | "silent" | "loud" | "async" | "nomand" | "noiversion" | "nolazytime" => {}
            "rbind" => self.recursive_bind = true,
            "tmpcopyup" => self.copy_up = true,
            "shared" => self.propagation = libc::MS_SHARED,
            "slave" => self.propagation = libc::MS_SLAVE,
            "private" => self.propagation = libc::MS_PRIVATE,
            "unbindable" => self.propagation = libc::MS_UNBINDABLE,
            "rshared" => self.recursive_propagation = libc::MS_SHARED,
            "rslave" => self.recursive_propagation = libc::MS_SLAVE,
            "rprivate" => self.recursive_propagation = libc::MS_PRIVATE,
            "runbindable" => self.recursive_propagation = libc::MS_UNBINDABLE,
            "" => {}
            data => self.data.push(data.to_owned()),
        }
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
        "relatime" | "atime" | "nostrictatime" => (0, ATIME),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        MountOptions::parse(&options.iter().map(ToString::to_string).collect::<Vec<_>>())
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
    fn knows_the_recursive_forms() {
        let options = parse(&["rbind", "rro", "rslave", "relatime"]);
        assert!(options.recursive_bind);
        assert_eq!(options.recursive_attr.set, RDONLY);
        assert_eq!(options.recursive_propagation, libc::MS_SLAVE);
        assert_eq!(options.attr.clear, ATIME);
        assert!(options.data.is_empty());
    }
}
