//! Hand-made archives, scratch directories and a look at whole trees.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use hrun_archive::{ArchiveError, ArchiveFailure, LayerExtent, Totals, UnpackLimits, extract_archive, unpack_layers};

/// A directory of its own for each test, gone with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// In memory where there is such a place: for tests that make and remove tens of thousands of files.
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            Self::below(memory)
        } else {
            Self::new()
        }
    }

    fn below(directory: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("hrun-archive-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, below: &str) -> PathBuf {
        match below {
            "" => self.0.clone(),
            below => self.0.join(below),
        }
    }

    pub fn directory(&self, below: &str) -> File {
        let path = self.path(below);
        fs::create_dir_all(&path).unwrap();
        File::open(path).unwrap()
    }

    /// Writes `layers` one after the other into one file, as the host does.
    pub fn disk(layers: &[Vec<u8>]) -> (File, Vec<LayerExtent>) {
        let memory = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC);
        let disk = File::from(memory.unwrap());
        let mut offset = 0;
        let mut extents = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            disk.write_all_at(layer, offset).unwrap();
            extents.push(LayerExtent {
                offset,
                length: layer.len() as u64,
                digest: format!("sha256:{index}"),
            });
            offset += (layer.len() as u64).next_multiple_of(512);
        }
        (disk, extents)
    }

    /// Unpacks `layers` onto `below`.
    pub fn unpack(&self, below: &str, layers: &[Vec<u8>]) -> Result<Totals, ArchiveError> {
        let (disk, extents) = Self::disk(layers);
        let root = self.directory(below);
        let limits = UnpackLimits {
            max_entries_per_layer: 10_000,
        };
        unpack_layers(&disk, &root, &extents, &limits, &mut |_| {})
    }

    /// Extracts `archive` to `directory` of the container root `below`.
    pub fn extract(&self, below: &str, directory: &str, archive: &[u8]) -> Result<(), ArchiveError> {
        let root = self.directory(below);
        let mut source = archive;
        let length = archive.len() as u64;
        extract_archive(&mut source, length, &root, Path::new(directory), true)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // rm copes with trees deeper than a path can be.
        run(Command::new("rm").arg("-rf").arg(&self.0));
    }
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// A tar under construction, every field of which can be wrong on purpose.
#[derive(Default)]
pub struct Tar(pub Vec<u8>);

pub struct Fields<'a> {
    pub name: &'a [u8],
    pub kind: u8,
    pub link: &'a [u8],
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: u64,
    pub device: (u32, u32),
    /// Raw bytes of the size field instead of the length of the data.
    pub size: Option<&'a [u8]>,
}

impl Default for Fields<'_> {
    fn default() -> Self {
        Self {
            name: b"",
            kind: b'0',
            link: b"",
            mode: 0o644,
            owner: (0, 0),
            mtime: 1_000_000_000,
            device: (0, 0),
            size: None,
        }
    }
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(mut self, fields: &Fields, data: &[u8]) -> Self {
        let mut block = [0u8; 512];
        let mut put = |at: usize, value: &[u8]| block[at..at + value.len()].copy_from_slice(value);
        put(0, fields.name);
        put(100, format!("{:07o}", fields.mode).as_bytes());
        put(108, format!("{:07o}", fields.owner.0).as_bytes());
        put(116, format!("{:07o}", fields.owner.1).as_bytes());
        let size = format!("{:011o}", data.len());
        put(124, fields.size.unwrap_or(size.as_bytes()));
        put(136, format!("{:011o}", fields.mtime).as_bytes());
        put(156, &[fields.kind]);
        put(157, fields.link);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", fields.device.0).as_bytes());
        put(337, format!("{:07o}", fields.device.1).as_bytes());
        seal(&mut block);
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        let fields = Fields {
            name: name.as_bytes(),
            ..Fields::default()
        };
        self.add(&fields, data)
    }

    pub fn dir(self, name: &str) -> Self {
        let fields = Fields {
            name: name.as_bytes(),
            kind: b'5',
            mode: 0o755,
            ..Fields::default()
        };
        self.add(&fields, b"")
    }

    pub fn link(self, name: &str, target: &str) -> Self {
        self.linked(b'2', name, target)
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.linked(b'1', name, target)
    }

    fn linked(self, kind: u8, name: &str, target: &str) -> Self {
        let fields = Fields {
            name: name.as_bytes(),
            kind,
            link: target.as_bytes(),
            ..Fields::default()
        };
        self.add(&fields, b"")
    }

    /// An extended header for the next entry.
    pub fn pax(self, records: &[(&[u8], &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let bare = key.len() + value.len() + 3;
            let digits = (1..).find(|digits| (bare + digits).to_string().len() == *digits);
            body.extend_from_slice((bare + digits.unwrap()).to_string().as_bytes());
            body.extend_from_slice(&[b" ", *key, b"=", *value, b"\n"].concat());
        }
        self.extension(b'x', &body)
    }

    pub fn extension(self, kind: u8, body: &[u8]) -> Self {
        let fields = Fields {
            name: b"extension",
            kind,
            ..Fields::default()
        };
        self.add(&fields, body)
    }

    /// Ends the archive.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// Writes the checksum of a header block.
pub fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// One object of a tree, everything that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub owner: (u32, u32),
    pub size: u64,
    pub mtime: (i64, i64),
    pub device: u64,
    pub links: u64,
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Everything below `root`, by path.
pub fn look(root: &Path) -> BTreeMap<String, Seen> {
    let mut seen = BTreeMap::new();
    look_at(root, "", &mut seen);
    seen
}

fn look_at(root: &Path, below: &str, seen: &mut BTreeMap<String, Seen>) {
    let path = if below.is_empty() {
        root.to_path_buf()
    } else {
        root.join(below)
    };
    let data = fs::symlink_metadata(&path).unwrap();
    let kind = data.file_type();
    let content = match () {
        () if kind.is_file() => fs::read(&path).unwrap(),
        () if kind.is_symlink() => fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
        () => Vec::new(),
    };
    let entry = Seen {
        mode: data.mode(),
        owner: (data.uid(), data.gid()),
        // The size of a directory is the file system's own business.
        size: if kind.is_dir() { 0 } else { data.size() },
        mtime: (data.mtime(), data.mtime_nsec()),
        device: data.rdev(),
        links: if kind.is_dir() { 0 } else { data.nlink() },
        content,
        xattrs: xattrs(&path),
    };
    seen.insert(below.to_string(), entry);
    if kind.is_dir() {
        for child in fs::read_dir(&path).unwrap() {
            let name = child.unwrap().file_name();
            let name = name.to_string_lossy();
            let below = match below {
                "" => name.into_owned(),
                below => format!("{below}/{name}"),
            };
            look_at(root, &below, seen);
        }
    }
}

pub fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap();
    let names = names[..length].split(|&byte| byte == 0);
    names
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65536];
            let key = CString::new(name).unwrap();
            let length = rustix::fs::lgetxattr(path, &key, value.as_mut_slice()).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// The names below `root`, without the root itself.
pub fn names(root: &Path) -> Vec<String> {
    let names = look(root).into_keys();
    names.filter(|name| !name.is_empty()).collect()
}

pub fn assert_fails<T>(result: Result<T, ArchiveError>, reason: ArchiveFailure, text: &str) {
    let Err(error) = result else {
        panic!("succeeded, but {reason:?} was expected ({text})");
    };
    let message = error.to_string();
    assert_eq!(error.reason(), reason, "{message}");
    assert!(message.contains(text), "{message:?} lacks {text:?}");
    assert!(!message.contains('\n'), "{message:?} has several lines");
}
