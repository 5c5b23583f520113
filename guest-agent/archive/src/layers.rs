//! Layers of an image, in order, onto one file system; whiteouts as the OCI image-spec has them (layer.md).

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::error::{ArchiveError, ArchiveFailure};
use crate::name::{clean, join, show, split};
use crate::place::{Placer, Rules};
use crate::reader::{Entry, TarReader};
use crate::remove::remove;
use crate::spot::parent_failed;
use crate::tree::{Links, Tree};
use crate::xattr::{Xattrs, proc_path};

const WHITEOUT: &[u8] = b".wh.";
/// Names of aufs' own bookkeeping, except for the opaque marker, say nothing about the image.
const RESERVED: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

const SECTOR: usize = 512;

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
    /// Of this layer, like `entries`.
    pub bytes_read: u64,
    pub entries: u64,
}

/// Sums over all layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub bytes_read: u64,
    pub entries: u64,
}

/// Unpacks `layers`, in order, from `source` (a block device or a file) onto `target_root`.
///
/// Owners, modes, times, devices and extended attributes are the archive's, so the caller has to be root. The
/// target may hold lower layers already. After an error the target is in between and only good for disposal.
pub fn unpack_layers(
    source: &File,
    target_root: &File,
    layers: &[LayerExtent],
    limits: &UnpackLimits,
    progress: &mut dyn FnMut(Progress),
) -> Result<Totals, ArchiveError> {
    let mut totals = Totals::default();
    let direct = open_direct(source);
    for (layer_index, extent) in (0..).zip(layers) {
        let LayerExtent { offset, length, .. } = *extent;
        let label = format!("layer {}", extent.digest);
        if !offset.is_multiple_of(SECTOR as u64) || offset.checked_add(length).is_none() {
            return Err(ArchiveError::new(
                ArchiveFailure::InvalidRequest,
                format!("{label}: no layer can lie at byte {offset}"),
            ));
        }
        let entries = Cell::new(0);
        let mut bytes = ExtentReader {
            source,
            direct: direct.as_ref(),
            position: offset,
            end: offset + length,
            told: Instant::now(),
            tell: &mut |position: u64| {
                progress(Progress {
                    layer_index,
                    bytes_read: position - offset,
                    entries: entries.get(),
                });
            },
        };
        let reader = TarReader::new(&mut bytes, length, label, limits.max_entries_per_layer);
        unpack_layer(reader, target_root, &entries)?;
        totals.entries += entries.get();
        totals.bytes_read += length;
    }
    Ok(totals)
}

fn unpack_layer(mut reader: TarReader, root: &File, entries: &Cell<u64>) -> Result<(), ArchiveError> {
    let rules = Rules {
        owners: true,
        mode_mask: 0o7777,
        devices: true,
        xattrs: Xattrs::All,
        keep_types: false,
        layer: true,
    };
    let mut layer = Layer {
        placer: Placer::new(Tree::new(root, b"", Links::InRoot), rules),
        own: HashSet::new(),
        hasher: RandomState::new(),
    };
    while let Some(entry) = reader.next()? {
        let applied = layer.apply(&mut reader, &entry);
        applied.map_err(|error| error.within(reader.place(&entry)))?;
        entries.set(reader.entries());
    }
    let finished = layer.placer.finish();
    finished.map_err(|error| error.within(reader.label()))
}

struct Layer<'a> {
    placer: Placer<'a>,
    /// Hashes of all paths this layer has, with their parents: whiteouts hide only what lies below the layer,
    /// wherever in it they stand. Two paths with one hash would do no harm beyond this image.
    own: HashSet<u64>,
    hasher: RandomState,
}

impl Layer<'_> {
    fn apply(&mut self, reader: &mut TarReader, entry: &Entry) -> Result<(), ArchiveError> {
        let path = clean(&entry.name)?;
        let (above, name) = split(&path);
        if name == OPAQUE {
            return self.hide_children(above);
        }
        let mut components = path.split(|&byte| byte == b'/');
        if components.any(|component| component.starts_with(RESERVED)) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.hide(above, hidden);
        }
        self.placer.place(reader, entry, &path)?;
        self.own(&path);
        Ok(())
    }

    fn own(&mut self, path: &[u8]) {
        let mut path = path;
        while !path.is_empty() && self.own.insert(self.hasher.hash_one(path)) {
            path = split(path).0;
        }
    }

    fn owns(&self, path: &[u8]) -> bool {
        self.own.contains(&self.hasher.hash_one(path))
    }

    /// Hides `name` of the lower layers.
    fn hide(&mut self, above: &[u8], name: &[u8]) -> Result<(), ArchiveError> {
        if matches!(name, b"" | b"." | b"..") {
            return Err(ArchiveError::new(
                ArchiveFailure::UnsafePath,
                "a whiteout of a directory and not of a name in it",
            ));
        }
        let path = join(above, name);
        if self.owns(&path) {
            return self.hide_children(&path);
        }
        let directory = match self.placer.tree.existing(above) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            found => found.map_err(|error| parent_failed(above, error))?,
        };
        self.placer.remember(&directory)?;
        remove(&directory.fd, name).map_err(|error| hiding(&path, error))
    }

    /// Hides what the directory `path` has from lower layers, at any depth below what this layer has there.
    fn hide_children(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        let mut waiting = vec![path.to_vec()];
        while let Some(path) = waiting.pop() {
            let mut listing = OFlags::RDONLY | OFlags::DIRECTORY;
            if self.owns(&path) {
                // Where the layer itself put a link, there is nothing below that name.
                listing |= OFlags::NOFOLLOW;
            }
            let fd = match self.placer.tree.open(&path, listing) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                opened => opened.map_err(|error| parent_failed(&path, error))?,
            };
            let directory = self.placer.tree.enter(&path, fd);
            let directory = directory.map_err(|error| hiding(&path, error))?;
            self.placer.remember(&directory)?;
            let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
            let mut listing = RawDir::new(&directory.fd, &mut buffer);
            while let Some(child) = listing.next() {
                let child = child.map_err(|error| hiding(&path, error))?;
                let name = child.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let below = join(&path, name);
                if !self.owns(&below) {
                    remove(&directory.fd, name).map_err(|error| hiding(&below, error))?;
                } else if matches!(child.file_type(), FileType::Directory | FileType::Unknown) {
                    waiting.push(below);
                }
            }
        }
        Ok(())
    }
}

fn hiding(path: &[u8], error: Errno) -> ArchiveError {
    ArchiveError::system(format!("hiding {}", show(path)), error)
}

/// A second way to a block device, past the page cache: each byte is read once, so keeping and copying it there would
/// only cost time and push out what is being written.
fn open_direct(source: &File) -> Option<File> {
    let stat = rustix::fs::fstat(source).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    let opened = rustix::fs::open(proc_path(source), flags, Mode::empty());
    opened.ok().map(File::from)
}

/// Reads a byte range of a disk and tells how far it is.
struct ExtentReader<'a> {
    source: &'a File,
    direct: Option<&'a File>,
    position: u64,
    end: u64,
    told: Instant,
    tell: &'a mut dyn FnMut(u64),
}

impl ExtentReader<'_> {
    fn read_some(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let whole_sectors = buffer.len() & !(SECTOR - 1);
        let aligned = self.position.is_multiple_of(SECTOR as u64) && whole_sectors > 0;
        if let Some(direct) = self.direct.filter(|_| aligned) {
            match direct.read_at(&mut buffer[..whole_sectors], self.position) {
                // The device has larger sectors than disks usually have.
                Err(error) if error.kind() == ErrorKind::InvalidInput => self.direct = None,
                done => return done,
            }
        }
        self.source.read_at(buffer, self.position)
    }
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        const PAUSE: Duration = Duration::from_millis(250);
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = self.read_some(&mut buffer[..wanted])?;
        self.position += count as u64;
        if self.told.elapsed() >= PAUSE {
            self.told = Instant::now();
            (self.tell)(self.position);
        }
        Ok(count)
    }
}
