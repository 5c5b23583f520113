//! Tar archives against hostile input, for the agent (image layers, copies in and out of a container) and for
//! the host's front door (`hrun cp`).
//!
//! The agent calls, each from a thread that may block:
//!
//! - [`unpack_layers`]: layers of an image from a disk onto a fresh file system, whiteouts included;
//! - [`pack_path`]: a tar of one path of a container;
//! - [`extract_archive`]: a tar below a directory of a container;
//! - [`stat_path`]: what lies at a path of a container.
//!
//! `root` is a descriptor of a directory (`O_PATH` is enough). Every path is walked below it with
//! `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`: links lead where they would inside a container, never out
//! of it. `/proc` must be mounted where the caller runs.

mod error;

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

pub use error::{ArchiveError, ArchiveFailure};

/// Byte range of one uncompressed tar in a source; `offset` is a multiple of 512.
#[derive(Clone, Debug)]
pub struct LayerExtent {
    pub offset: u64,
    pub length: u64,
    /// Shown in errors.
    pub digest: String,
}

#[derive(Clone, Copy, Debug)]
pub struct UnpackLimits {
    pub max_entries_per_layer: u64,
}

/// How far the layer `layer_index` is; told a few times per second at most.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub layer_index: u32,
    pub bytes_read: u64,
    pub entries: u64,
}

/// Sums over all layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub bytes_read: u64,
    pub entries: u64,
}

/// What lies at a path; the fields of `StatPathResponse`.
#[derive(Clone, Debug)]
pub struct PathStat {
    pub name: String,
    pub size: u64,
    pub mode: u32,
    pub mtime_s: i64,
    pub link_target: String,
    pub tar_size_estimate: u64,
}

/// Unpacks `layers`, in order, from `source` (a block device or a file) onto `target_root`.
pub fn unpack_layers(
    _source: &File,
    _target_root: &File,
    _layers: &[LayerExtent],
    _limits: &UnpackLimits,
    _progress: &mut dyn FnMut(Progress),
) -> Result<Totals, ArchiveError> {
    Err(unfinished())
}

/// Writes a tar of `path` to `output` and returns its length in bytes.
pub fn pack_path(_root: &File, _path: &Path, _follow_link: bool, _output: &mut dyn Write) -> Result<u64, ArchiveError> {
    Err(unfinished())
}

/// Extracts the tar of `length` bytes below `directory`.
pub fn extract_archive(
    _source: &mut dyn Read,
    _length: u64,
    _root: &File,
    _directory: &Path,
    _no_overwrite_dir_non_dir: bool,
) -> Result<(), ArchiveError> {
    Err(unfinished())
}

/// What lies at `path`.
pub fn stat_path(_root: &File, _path: &Path, _follow_link: bool) -> Result<PathStat, ArchiveError> {
    Err(unfinished())
}

fn unfinished() -> ArchiveError {
    ArchiveError::new(ArchiveFailure::InvalidRequest, "archives are not finished yet")
}
