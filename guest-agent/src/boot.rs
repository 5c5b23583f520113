//! From the initramfs to a guest that can hold containers.

use std::fs;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_bind, mount_move, mount_remount};

use crate::failure::{Doing, Result};
use crate::sys;

/// Where everything the agent mounts lies.
pub const STATE_DIR: &str = "/run/hrun";

const MAX_OPEN_FILES: u64 = 1 << 20;

/// What would wake a guest in which nothing happens, and does nothing then: compaction ahead of need looks twice a second
/// how scattered memory is, and neighbours that are to be kept fresh are looked for every five seconds
/// (Documentation/admin-guide/sysctl/vm.rst, networking/ip-sysctl.rst). Kernels differ in which of them they have.
const QUIET_WHEN_IDLE: [(&str, &str); 3] = [
    ("/proc/sys/vm/compaction_proactiveness", "0"),
    ("/proc/sys/net/ipv4/neigh/default/interval_probe_time_ms", "3600000"),
    ("/proc/sys/net/ipv6/neigh/default/interval_probe_time_ms", "3600000"),
];

/// Mounts the kernel's file systems and prepares what containers need from the guest.
pub fn prepare_guest() -> Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    enter_movable_root()?;
    attach("proc", "/proc", plain, "")?;
    attach("sysfs", "/sys", plain, "")?;
    attach("devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, "mode=0755")?;
    fs::create_dir_all("/dev/pts").doing(|| "making /dev/pts".into())?;
    attach(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620",
    )?;
    attach("cgroup2", "/sys/fs/cgroup", plain, "")?;
    attach(
        "tmpfs",
        "/run",
        MountFlags::NOSUID | MountFlags::NODEV,
        "mode=0755,size=50%",
    )?;
    fs::create_dir_all(STATE_DIR).doing(|| format!("making {STATE_DIR}"))?;
    // Grace periods wait for timer ticks otherwise, a few of them in the way of every container. One or a few CPUs that
    // are nobody else's do not mind being interrupted.
    fs::write("/sys/kernel/rcu_expedited", "1").doing(|| "expediting RCU".into())?;
    for (setting, value) in QUIET_WHEN_IDLE {
        let _ = fs::write(setting, value);
    }
    // The agent holds a handful of descriptors for each process; what it starts inherits Docker's usual limit.
    sys::set_rlimit(libc::RLIMIT_NOFILE, MAX_OPEN_FILES, MAX_OPEN_FILES)
        .doing(|| "raising the limit of open files".into())?;
    // Nobody may inspect a child of ours between fork and execve, nor have its memory dumped.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .doing(|| "hiding the agent's memory".into())?;
    fs::write("/proc/self/oom_score_adj", "-1000").doing(|| "keeping the agent from the OOM killer".into())
}

/// pivot_root(2) does not work on the initial ramfs itself, which has no parent mount. So the whole of it is bound onto
/// itself; read-only, because /init must not be written to through some process's /proc/PID/exe.
fn enter_movable_root() -> Result<()> {
    let doing = || "moving the root file system".to_owned();
    for directory in ["/proc", "/sys", "/dev", "/run", "/sysroot"] {
        fs::create_dir_all(directory).doing(doing)?;
    }
    mount_bind("/", "/sysroot").doing(doing)?;
    rustix::process::chdir("/sysroot").doing(doing)?;
    mount_move(".", "/").doing(doing)?;
    rustix::process::chroot(".").doing(doing)?;
    mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "").doing(doing)
}

fn attach(kind: &str, target: &str, flags: MountFlags, data: &str) -> Result<()> {
    let data = std::ffi::CString::new(data).unwrap_or_default();
    mount(kind, target, kind, flags, data.as_c_str()).doing(|| format!("mounting {kind} on {target}"))
}

pub fn bring_up_loopback() -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .doing(|| "opening a socket".into())?;
    sys::interface_up(std::os::fd::AsFd::as_fd(&socket), c"lo").doing(|| "bringing up lo".into())
}

/// One line on the serial console; there is nobody to tell when that fails.
pub fn say_on_console(line: &str) {
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(console) = rustix::fs::open("/dev/console", flags, Mode::empty()) {
        let _ = rustix::io::write(&console, format!("{line}\n").as_bytes());
    }
}

/// With `reboot=t` and QEMU's `-no-reboot` this ends the microVM; a power-off would only halt.
pub fn reboot() -> ! {
    rustix::fs::sync();
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    sys::exit_now(1)
}
