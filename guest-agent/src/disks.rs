//! Disks, found by the serial number the host gave them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::contract::FailureReason;
use crate::failure::{Doing, Failure, Result};

/// A disk plugged while the guest runs shows up a little later than the host's call returns.
const APPEARS_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// The device node of the disk called `serial`; waits for one that is just being plugged.
pub async fn find_disk(serial: &str) -> Result<PathBuf> {
    check_serial(serial)?;
    let deadline = tokio::time::Instant::now() + APPEARS_WITHIN;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = look_for(serial) {
            return Ok(found);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Failure::new(
                FailureReason::NoSuchDevice,
                format!("no disk has the serial number {serial:?}"),
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Opens a disk and drops what is cached of it: behind the same device there may have been another file before.
pub fn open_disk(device: &Path, access: Access) -> Result<File> {
    let flags = match access {
        Access::ReadOnly => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    let doing = || format!("opening the disk {}", device.display());
    let disk = rustix::fs::open(device, flags | OFlags::CLOEXEC, Mode::empty()).doing(doing)?;
    rustix::fs::fadvise(&disk, 0, None, rustix::fs::Advice::DontNeed).doing(doing)?;
    Ok(disk.into())
}

fn check_serial(serial: &str) -> Result<()> {
    let valid = !serial.is_empty() && serial.len() <= 36 && serial.bytes().all(|byte| byte.is_ascii_graphic());
    if valid {
        Ok(())
    } else {
        Err(Failure::invalid(format!("{serial:?} is no serial number of a disk")))
    }
}

fn look_for(serial: &str) -> Option<PathBuf> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
        let name = entry.file_name();
        let found = serial_of(&entry.path(), name.as_encoded_bytes())?;
        let device = Path::new("/dev").join(&name);
        (found == serial.as_bytes() && device.exists()).then_some(device)
    })
}

/// virtio-blk has an attribute for it; SCSI disks tell it in page 0x80 of their vital product data, behind a header of
/// four bytes.
fn serial_of(block: &Path, name: &[u8]) -> Option<Vec<u8>> {
    if name.starts_with(b"vd") {
        return Some(fs::read(block.join("serial")).ok()?.trim_ascii().to_vec());
    }
    if name.starts_with(b"sd") {
        return Some(
            fs::read(block.join("device/vpd_pg80"))
                .ok()?
                .get(4..)?
                .trim_ascii()
                .to_vec(),
        );
    }
    None
}
