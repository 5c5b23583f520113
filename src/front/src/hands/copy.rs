//! The caller's side of `hrun cp`: tars of the caller's files, and archives from an untrusted container on its disk.

use std::fs::File;
use std::os::fd::OwnedFd;

use hrun_archive::{ArchiveError, ArchiveFailure, HostRules, PackOptions, extract_untrusted, pack_file};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use super::{Refusal, flag, text};

/// Writes a tar of the caller's `path` into the daemon's file, which exists. Without `archive` all entries belong to
/// root, as Docker copies into a container.
pub fn pack(request: &Value) -> Result<Value, Refusal> {
    let follow = match flag(request, "followLink") {
        true => OFlag::empty(),
        false => OFlag::O_NOFOLLOW,
    };
    let name = text(request, "name")?;
    let top = at(text(request, "path")?, OFlag::O_PATH | follow)?;
    let mut output = transfer(text(request, "outputPath")?, OFlag::O_WRONLY)?;
    let options = PackOptions {
        name: name.as_bytes(),
        owner: (!flag(request, "archive")).then_some((0, 0)),
    };
    let bytes = pack_file(&top, &options, &mut output)?;
    Ok(json!({ "bytes": bytes }))
}

/// Extracts the daemon's file below the caller's `directory`. Without `archive` everything belongs to the caller and
/// has no set-id bits.
pub fn unpack(request: &Value) -> Result<Value, Refusal> {
    let length = request["length"].as_u64().ok_or(Errno::EINVAL)?;
    let rules = HostRules {
        name: text(request, "name")?.as_bytes(),
        owners: flag(request, "archive"),
    };
    let directory = at(text(request, "directory")?, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let mut input = transfer(text(request, "inputPath")?, OFlag::O_RDONLY)?;
    let skipped = extract_untrusted(&mut input, length, &File::from(directory), &rules)?;
    Ok(json!({ "skippedDevices": skipped }))
}

fn at(path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    open(path, flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty())
}

/// The daemon's file, of which the user knows nothing.
fn transfer(path: &str, flags: OFlag) -> Result<File, Refusal> {
    let opened = at(path, flags | OFlag::O_NOFOLLOW);
    opened.map(File::from).map_err(|errno| Refusal {
        errno,
        message: format!("opening {path}: {}", errno.desc().to_lowercase()),
    })
}

impl From<ArchiveError> for Refusal {
    fn from(error: ArchiveError) -> Refusal {
        let errno = match error.reason() {
            ArchiveFailure::DiskFull => Errno::ENOSPC,
            ArchiveFailure::CorruptArchive => Errno::EBADMSG,
            ArchiveFailure::UnsafePath => Errno::EPERM,
            ArchiveFailure::TooManyEntries => Errno::E2BIG,
            ArchiveFailure::NoSuchPath => Errno::ENOENT,
            ArchiveFailure::NotADirectory => Errno::ENOTDIR,
            ArchiveFailure::InvalidRequest => Errno::EINVAL,
            ArchiveFailure::Io => error.errno().map_or(Errno::EIO, Errno::from_raw),
        };
        Refusal {
            errno,
            message: error.to_string(),
        }
    }
}
