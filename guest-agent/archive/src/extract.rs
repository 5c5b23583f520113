//! Copies in: a tar below a directory of a container, or of an untrusted container below a directory of the host.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{ArchiveError, ArchiveFailure};
use crate::name::{clean, join, show};
use crate::place::{Placer, Rules};
use crate::reader::{Kind, TarReader};
use crate::tree::{Links, Tree};
use crate::xattr::Xattrs;

/// Extracts the tar of `length` bytes below `directory`, an existing directory below `root`.
///
/// Links on the way lead where they would inside the container. Owners, modes, devices and extended attributes
/// are the archive's. With `no_overwrite_dir_non_dir`, a directory never replaces something else nor the other
/// way round. What was extracted before an error stays.
pub fn extract_archive(
    source: &mut dyn Read,
    length: u64,
    root: &File,
    directory: &Path,
    no_overwrite_dir_non_dir: bool,
) -> Result<(), ArchiveError> {
    let prefix = directory.as_os_str().as_bytes();
    let shown = show(prefix);
    if prefix.is_empty() || prefix.contains(&0) {
        return Err(ArchiveError::new(
            ArchiveFailure::InvalidRequest,
            format!("{shown} names no directory"),
        ));
    }
    let tree = Tree::new(root, prefix, Links::InRoot);
    tree.open_directory(b"")
        .map_err(|error| ArchiveError::system(format!("opening {shown}"), error))?;
    let rules = Rules {
        owners: true,
        mode_mask: 0o7777,
        devices: true,
        xattrs: Xattrs::All,
        keep_types: no_overwrite_dir_non_dir,
        layer: false,
    };
    let reader = TarReader::new(source, length, format!("archive for {shown}"), u64::MAX);
    extract(reader, Placer::new(tree, rules), &mut clean).map(drop)
}

/// What an archive from an untrusted container may do to the host.
pub struct HostRules<'a> {
    /// The first entry is called this, with everything below it, and nothing may lie beside it. `.` puts what is
    /// below it right into the directory.
    pub name: &'a [u8],
    /// Take owners, set-id bits and capabilities over (`cp -a`), as far as the caller is root. Otherwise everything
    /// belongs to the caller.
    pub owners: bool,
}

/// Extracts an untrusted tar below `directory`, an open directory of the host. No link is followed at all, no
/// device is made and no directory replaced by something else. Returns how many devices were left out.
pub fn extract_untrusted(
    source: &mut dyn Read,
    length: u64,
    directory: &File,
    rules: &HostRules,
) -> Result<u64, ArchiveError> {
    let name = rules.name;
    if matches!(name, b"" | b"..") || name.contains(&b'/') || name.contains(&0) {
        return Err(ArchiveError::new(
            ArchiveFailure::InvalidRequest,
            format!("{} is not the name of a file", show(name)),
        ));
    }
    // As cp -a and tar do: who cannot give files away does not make set-id programs of his own out of them.
    let owners = rules.owners && rustix::process::geteuid().is_root();
    let (mode_mask, xattrs) = match owners {
        true => (0o7777, Xattrs::UserAndCapability),
        false => (0o1777, Xattrs::User),
    };
    let placing = Rules {
        owners,
        mode_mask,
        devices: false,
        xattrs,
        keep_types: true,
        layer: false,
    };
    let placer = Placer::new(Tree::new(directory, b"", Links::Refused), placing);
    let reader = TarReader::new(source, length, "archive from the container".into(), u64::MAX);
    let mut top = None;
    extract(reader, placer, &mut |stored| rename(&mut top, name, stored))
}

/// Where a stored name goes.
type PathOf<'a> = &'a mut dyn FnMut(&[u8]) -> Result<Vec<u8>, ArchiveError>;

fn extract(mut reader: TarReader, mut placer: Placer, path_of: PathOf) -> Result<u64, ArchiveError> {
    while let Some(mut entry) = reader.next()? {
        let placed = path_of(&entry.name).and_then(|path| {
            if entry.kind == Kind::HardLink {
                entry.link = path_of(&entry.link)?;
            }
            placer.place(&mut reader, &entry, &path)
        });
        placed.map_err(|error| error.within(reader.place(&entry)))?;
    }
    let finished = placer.finish();
    finished.map_err(|error| error.within(reader.label()))?;
    Ok(placer.skipped)
}

/// The path `stored` gets when the first component of the first entry, kept in `top`, is renamed to `name`.
fn rename(top: &mut Option<Vec<u8>>, name: &[u8], stored: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let path = clean(stored)?;
    let name = if name == b"." { b"" } else { name };
    let first = path.split(|&byte| byte == b'/').next();
    let top = top.get_or_insert_with(|| first.unwrap_or_default().to_vec());
    if top.is_empty() {
        return Ok(join(name, &path));
    }
    match path.strip_prefix(top.as_slice()) {
        Some(b"") => Ok(name.to_vec()),
        Some([b'/', below @ ..]) => Ok(join(name, below)),
        _ => Err(ArchiveError::new(
            ArchiveFailure::UnsafePath,
            format!("a name that is not below {}", show(top)),
        )),
    }
}
