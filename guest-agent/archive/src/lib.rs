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
//! of it. `/proc` of the calling process must be
//! mounted and not be one that a container could replace.

mod error;
mod extract;
mod header;
mod layers;
mod listing;
mod name;
mod pack;
mod pax;
mod place;
mod reader;
mod remove;
mod sparse;
mod spot;
mod stat;
mod tree;
mod writer;
mod xattr;

pub use error::{ArchiveError, ArchiveFailure};
pub use extract::{HostRules, extract_archive, extract_untrusted};
pub use layers::{LayerExtent, Progress, Totals, UnpackLimits, unpack_layers};
pub use pack::{PackOptions, pack_file};
pub use stat::{PathStat, base_name, pack_content, pack_path, stat_path};
