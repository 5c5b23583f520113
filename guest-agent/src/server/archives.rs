//! Archives: layers onto a disk, copies out of and into a container. All of it runs on threads that may block.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hrun_archive::{LayerExtent, Progress, UnpackLimits};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use tokio::sync::mpsc;
use tonic::Status;

use super::Agent;
use crate::boot::STATE_DIR;
use crate::container::{blocking, mount_device, sync_file_system};
use crate::contract::{
    ExtractArchiveRequest, PackPathRequest, StatPathRequest, StatPathResponse, UnpackLayersRequest,
    UnpackLayersResponse,
};
use crate::disks::{Access, find_disk, open_disk};
use crate::failure::{Doing, Failure, Result};

/// Progress the host has not read yet; older news is worth nothing, so more is dropped.
const PROGRESS_QUEUE: usize = 4;
const MAX_LAYERS: usize = 1024;

pub type UnpackStream = mpsc::Receiver<Result<UnpackLayersResponse, Status>>;

impl Agent {
    /// Ends with `done` or with the failure; goes on to its end when the host goes away.
    pub(super) async fn unpack_layers(&self, request: UnpackLayersRequest) -> Result<UnpackStream> {
        self.require_personalized().await?;
        if request.layers.len() > MAX_LAYERS {
            return Err(Failure::invalid(format!("more than {MAX_LAYERS} layers")));
        }
        let source = find_disk(&request.source_serial).await?;
        let target = find_disk(&request.target_serial).await?;
        let (progress, stream) = mpsc::channel(PROGRESS_QUEUE);
        tokio::spawn(async move {
            let news = progress.clone();
            let unpacked = blocking(move || unpack(&source, &target, request, &news)).await;
            let _ = progress.send(unpacked.map_err(Status::from)).await;
        });
        Ok(stream)
    }

    pub(super) async fn pack_path(self: Arc<Self>, request: PackPathRequest) -> Result<u64> {
        let container = self.container(&request.container_id)?;
        let target = find_disk(&request.target_serial).await?;
        blocking(move || {
            let root = File::from(container.root_view()?);
            let mut output = open_disk(&target, Access::ReadWrite)?;
            let path = Path::new(&request.path);
            let length = if request.content_only {
                hrun_archive::pack_content(&root, path, &mut output)?
            } else {
                hrun_archive::pack_path(&root, path, request.follow_link, &mut output)?
            };
            let doing = || "writing the archive".to_owned();
            output.flush().doing(doing)?;
            output.sync_all().doing(doing)?;
            Ok(length)
        })
        .await
    }

    pub(super) async fn extract_archive(self: Arc<Self>, request: ExtractArchiveRequest) -> Result<()> {
        let container = self.container(&request.container_id)?;
        let source = find_disk(&request.source_serial).await?;
        blocking(move || {
            let root = File::from(container.root_view()?);
            let mut source = open_disk(&source, Access::ReadOnly)?;
            let directory = Path::new(&request.directory);
            let refuse = request.no_overwrite_dir_non_dir;
            Ok(hrun_archive::extract_archive(
                &mut source,
                request.length,
                &root,
                directory,
                refuse,
            )?)
        })
        .await
    }

    pub(super) async fn stat_path(self: Arc<Self>, request: StatPathRequest) -> Result<StatPathResponse> {
        let container = self.container(&request.container_id)?;
        blocking(move || {
            let root = File::from(container.root_view()?);
            let stat = hrun_archive::stat_path(&root, Path::new(&request.path), request.follow_link)?;
            Ok(StatPathResponse {
                name: stat.name,
                size: stat.size,
                mode: stat.mode,
                mtime_s: stat.mtime_s,
                link_target: stat.link_target,
                tar_size_estimate: stat.tar_size_estimate,
            })
        })
        .await
    }
}

fn unpack(
    source: &Path,
    target: &Path,
    request: UnpackLayersRequest,
    news: &mpsc::Sender<Result<UnpackLayersResponse, Status>>,
) -> Result<UnpackLayersResponse> {
    let layers = request.layers.into_iter().map(|layer| LayerExtent {
        offset: layer.offset,
        length: layer.length,
        digest: layer.digest,
    });
    let layers = layers.collect::<Vec<_>>();
    let limits = UnpackLimits {
        max_entries_per_layer: request.max_entries_per_layer,
    };
    let mut source = open_disk(source, Access::ReadOnly)?;
    source.rewind().doing(|| "reading the layers".into())?;
    let mounted = UnpackTarget::mount(target, &request.target_serial)?;
    let root = File::from(mounted.open()?);
    let totals = hrun_archive::unpack_layers(&source, &root, &layers, &limits, &mut |progress: Progress| {
        let _ = news.try_send(Ok(UnpackLayersResponse {
            layer_index: progress.layer_index,
            bytes_read: progress.bytes_read,
            entries: progress.entries,
            done: false,
        }));
    })?;
    drop(root);
    mounted.finish()?;
    let last = layers.len().saturating_sub(1) as u32;
    Ok(UnpackLayersResponse {
        layer_index: last,
        bytes_read: totals.bytes_read,
        entries: totals.entries,
        done: true,
    })
}

/// The disk being filled; unmounted in any case.
struct UnpackTarget {
    path: PathBuf,
}

impl UnpackTarget {
    fn mount(device: &Path, serial: &str) -> Result<Self> {
        open_disk(device, Access::ReadOnly)?;
        let path = Path::new(STATE_DIR).join(format!("unpack-{serial}"));
        std::fs::create_dir_all(&path).doing(|| format!("making {}", path.display()))?;
        mount_device(device, &path, "ext4", MountFlags::NOATIME, c"discard")?;
        let target = Self { path };
        // mkfs leaves it; an image has none.
        let _ = std::fs::remove_dir(target.path.join("lost+found"));
        Ok(target)
    }

    fn open(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.path, flags, Mode::empty()).doing(|| format!("opening {}", self.path.display()))
    }

    /// A write error that comes late is told here.
    fn finish(self) -> Result<()> {
        sync_file_system(&self.path)?;
        rustix::mount::unmount(&self.path, UnmountFlags::NOFOLLOW).doing(|| "unmounting the new disk".into())
    }
}

impl Drop for UnpackTarget {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.path);
    }
}
