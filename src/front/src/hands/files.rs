use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_at};
use nix::sys::stat::Mode;
use nix::unistd;
use serde_json::{Value, json};

use crate::sys;

/// Bytes of one `read` at most.
const MOST: u64 = 512 << 10;

/// The file, and what is known of it before anything is read. The caller's umask applies, as this process has it.
pub fn open(request: &Value) -> Result<(File, Value), Errno> {
    let path = super::text(request, "path")?;
    let mode = request["mode"].as_u64().unwrap_or(0o666);
    let mode = Mode::from_bits(u32::try_from(mode).map_err(|_| Errno::EINVAL)?).ok_or(Errno::EINVAL)?;
    let file = File::from(open_at(path, flags(request)?, mode)?);
    let found = file.metadata().map_err(errno)?;
    let result = json!({
        "size": found.size(),
        "mode": found.mode(),
        "isDirectory": found.is_dir(),
        "fd": file.as_raw_fd(),
        "device": found.dev().to_string(),
        "inode": found.ino().to_string(),
    });
    Ok((file, result))
}

fn flags(request: &Value) -> Result<OFlag, Errno> {
    let names = request["flags"].as_array().ok_or(Errno::EINVAL)?;
    let mut flags = OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let (mut read, mut write) = (false, false);
    for name in names {
        match name.as_str() {
            Some("read") => read = true,
            Some("write") => write = true,
            Some("append") => {
                write = true;
                flags |= OFlag::O_APPEND;
            }
            Some("create") => flags |= OFlag::O_CREAT,
            Some("exclusive") => flags |= OFlag::O_CREAT | OFlag::O_EXCL,
            Some("truncate") => flags |= OFlag::O_TRUNC,
            Some("nofollow") => flags |= OFlag::O_NOFOLLOW,
            // of a block device: nobody else opens it so, or mounts it
            Some("claim") => flags |= OFlag::O_EXCL,
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(flags
        | match (read, write) {
            (true, false) => OFlag::O_RDONLY,
            (false, true) => OFlag::O_WRONLY,
            (true, true) => OFlag::O_RDWR,
            (false, false) => return Err(Errno::EINVAL),
        })
}

/// Fills the length unless the file ends before, except where what comes is waited for: there it is one read.
pub fn read(file: &File, request: &Value) -> Result<Vec<u8>, Errno> {
    let length = request["length"]
        .as_u64()
        .filter(|&length| length <= MOST)
        .ok_or(Errno::EINVAL)? as usize;
    let mut bytes = vec![0; length];
    let count = match file.metadata().map_err(errno)?.is_file() {
        true => fill(file, &mut bytes).map_err(errno)?,
        false => sys::read_once(file.as_fd(), &mut bytes)?,
    };
    bytes.truncate(count);
    Ok(bytes)
}

fn fill(mut file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match file.read(&mut bytes[count..]) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

pub fn write(mut file: &File, bytes: &[u8]) -> Result<(), Errno> {
    file.write_all(bytes).map_err(errno)
}

/// Some file systems tell only now that they could not keep what was written.
pub fn close(file: File) -> Result<(), Errno> {
    unistd::close(file.into_raw_fd())
}

pub fn rename(from: &str, to: &str) -> Result<(), Errno> {
    fs::rename(from, to).map_err(errno)
}

pub fn unlink(path: &str) -> Result<(), Errno> {
    unistd::unlink(path)
}

/// With its parents; one that exists stays as it is.
pub fn make_directory(request: &Value) -> Result<(), Errno> {
    let mode = request["mode"].as_u64().and_then(|mode| u32::try_from(mode).ok());
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(mode.ok_or(Errno::EINVAL)?);
    builder.create(super::text(request, "path")?).map_err(errno)
}

pub fn stat(path: &str, follow: bool) -> Result<Value, Errno> {
    let path = Path::new(path);
    let found = if follow {
        fs::metadata(path)
    } else {
        fs::symlink_metadata(path)
    }
    .map_err(errno)?;
    let target = fs::read_link(path).unwrap_or_default();
    let real = path.canonicalize().unwrap_or_default();
    Ok(json!({
        "size": found.size(),
        "mode": found.mode(),
        "mtimeMs": found.mtime() * 1000 + found.mtime_nsec() / 1_000_000,
        "linkTarget": target.to_string_lossy(),
        "uid": found.uid(),
        "gid": found.gid(),
        "realPath": real.to_string_lossy(),
        "device": found.dev().to_string(),
        "inode": found.ino().to_string(),
    }))
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
