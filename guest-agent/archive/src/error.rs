//! One error for everything that reads or writes archives: a reason to act on and a message to show.

use std::fmt;

use rustix::io::Errno;

/// Why an archive could not be read, written or extracted, as far as the caller acts on it.
/// Mirrors the names of `FailureReason` in the agent's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFailure {
    DiskFull,
    CorruptArchive,
    UnsafePath,
    TooManyEntries,
    NoSuchPath,
    NotADirectory,
    InvalidRequest,
    Io,
}

/// A failed archive operation. `Display` is one line fit to show to a user; it names the layer, the entry and
/// the byte where it is known, with the hostile bytes in names escaped.
#[derive(Debug)]
pub struct ArchiveError {
    reason: ArchiveFailure,
    message: String,
    source: Option<std::io::Error>,
}

impl ArchiveError {
    pub fn reason(&self) -> ArchiveFailure {
        self.reason
    }

    /// The error number of the system call that failed, if one did.
    pub fn errno(&self) -> Option<i32> {
        self.source.as_ref().and_then(std::io::Error::raw_os_error)
    }

    pub(crate) fn new(reason: ArchiveFailure, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            source: None,
        }
    }

    /// A failed system call while `doing` something.
    pub(crate) fn system(doing: impl fmt::Display, cause: impl Into<std::io::Error>) -> Self {
        let cause = cause.into();
        Self {
            reason: reason_of(&cause),
            message: format!("{doing}: {}", describe(&cause)),
            source: Some(cause),
        }
    }

    /// Puts where it happened in front of the message.
    pub(crate) fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What a missing path or a wrong type means to the caller differs from place to place.
    pub(crate) fn because(mut self, reason: ArchiveFailure) -> Self {
        self.reason = reason;
        self
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|cause| cause as _)
    }
}

fn reason_of(cause: &std::io::Error) -> ArchiveFailure {
    match Errno::from_io_error(cause) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => ArchiveFailure::DiskFull,
        Some(Errno::NOENT) => ArchiveFailure::NoSuchPath,
        Some(Errno::NOTDIR) => ArchiveFailure::NotADirectory,
        // Links in circles, or a walk that would leave the root.
        Some(Errno::LOOP | Errno::XDEV) => ArchiveFailure::UnsafePath,
        Some(Errno::NAMETOOLONG) => ArchiveFailure::InvalidRequest,
        _ => ArchiveFailure::Io,
    }
}

/// The kernel's text without Rust's "(os error N)".
fn describe(cause: &std::io::Error) -> String {
    let text = cause.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}
