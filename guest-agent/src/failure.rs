//! Why a call failed: a reason for the host to act on and a message fit to show to a user.

use std::io;

use hrun_archive::{ArchiveError, ArchiveFailure};
use rustix::io::Errno;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::contract::FailureReason;

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub reason: FailureReason,
    pub message: String,
}

pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureReason::InvalidRequest, message)
    }
}

/// Adds what was being done to a failed system call.
pub trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
    fn because(self, reason: FailureReason, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.because(FailureReason::Unspecified, what)
    }

    /// A full disk stays a full disk, whatever was being done.
    fn because(self, reason: FailureReason, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let error = error.into();
            let full = matches!(Errno::from_io_error(&error), Some(Errno::NOSPC | Errno::DQUOT));
            let reason = if full { FailureReason::DiskFull } else { reason };
            Failure::new(reason, format!("{}: {}", what(), describe(&error)))
        })
    }
}

/// The kernel's text without Rust's "(os error N)", in lower case as it stands inside a sentence.
pub fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let reason = match error.reason() {
            ArchiveFailure::DiskFull => FailureReason::DiskFull,
            ArchiveFailure::CorruptArchive => FailureReason::CorruptArchive,
            ArchiveFailure::UnsafePath => FailureReason::UnsafePath,
            ArchiveFailure::TooManyEntries => FailureReason::TooManyEntries,
            ArchiveFailure::NoSuchPath => FailureReason::NoSuchPath,
            ArchiveFailure::NotADirectory => FailureReason::NotADirectory,
            ArchiveFailure::InvalidRequest => FailureReason::InvalidRequest,
            ArchiveFailure::Io => FailureReason::Unspecified,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut metadata = MetadataMap::new();
        if let Ok(name) = failure.reason.as_str_name().parse() {
            metadata.insert("hrun-reason", name);
        }
        Status::with_metadata(code(failure.reason), failure.message, metadata)
    }
}

fn code(reason: FailureReason) -> Code {
    match reason {
        FailureReason::Unspecified => Code::Internal,
        FailureReason::NoSuchContainer
        | FailureReason::NoSuchProcess
        | FailureReason::NoSuchDevice
        | FailureReason::NoSuchPath => Code::NotFound,
        FailureReason::AlreadyExists => Code::AlreadyExists,
        FailureReason::InvalidRequest => Code::InvalidArgument,
        FailureReason::DiskFull | FailureReason::TooManyEntries => Code::ResourceExhausted,
        _ => Code::FailedPrecondition,
    }
}
