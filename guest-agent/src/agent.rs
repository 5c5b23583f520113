//! PID 1: boots the guest and serves the host until the microVM ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::cmdline::{Options, Transport};
use crate::failure::{Doing, Result};
use crate::link::{Arrivals, Link, VirtioPort, find_virtio_port};
use crate::server::Agent;
use crate::vsock::VsockListener;
use crate::{boot, connection, sys};

/// The name the VMM gives the serial port.
const PORT_NAME: &str = "hrun.agent";

/// Never returns: without an agent the guest is of no use to anybody, so an error ends the microVM.
///
/// Called with `warm-up` it does nothing and succeeds: a guest that waits for its container runs it as a workload of its
/// own, so that what the first workload needs is in memory.
pub fn main() -> ! {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "warm-up") {
        sys::exit_now(0);
    }
    let started = clock_gettime(ClockId::Boottime);
    let started_ns = started.tv_sec as u64 * 1_000_000_000 + started.tv_nsec as u64;
    let Err(failure) = run(started_ns);
    boot::say_on_console(&format!("hrun-agent failed: {failure}"));
    boot::reboot()
}

fn run(started_ns: u64) -> Result<Infallible> {
    boot::prepare_guest()?;
    let cmdline = std::fs::read_to_string("/proc/cmdline").doing(|| "reading the kernel command line".into())?;
    let options = Options::parse(&cmdline);
    let agent = Arc::new(Agent::new(started_ns)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build();
    runtime
        .doing(|| "starting the runtime".into())?
        .block_on(serve(agent, options))
}

async fn serve(agent: Arc<Agent>, options: Options) -> Result<Infallible> {
    match options.transport {
        Transport::Serial => {
            if options.vsock_loopback {
                tokio::spawn(serve_vsock(Arc::clone(&agent), listen(options)?));
            }
            let arrivals = Arrivals::default();
            let link = tokio::spawn(Link::new(open_port().await?, arrivals.clone()));
            get_ready(&agent, options);
            tokio::spawn(async move { connection::serve(agent, || arrivals.next()).await });
            Err(link.await.unwrap_or_else(std::io::Error::other)).doing(|| "using the serial port".into())
        }
        Transport::Vsock => {
            let listener = listen(options)?;
            get_ready(&agent, options);
            Ok(serve_vsock(agent, listener).await)
        }
    }
}

fn listen(options: Options) -> Result<VsockListener> {
    VsockListener::bind(options.vsock_loopback).doing(|| "listening on vsock".into())
}

async fn serve_vsock(agent: Arc<Agent>, listener: VsockListener) -> Infallible {
    connection::serve(agent, || listener.accept()).await
}

fn get_ready(agent: &Arc<Agent>, options: Options) {
    if options.announce {
        boot::say_on_console("hrun-agent ready");
    }
    let agent = Arc::clone(agent);
    tokio::spawn(async move { agent.prepare_when_idle().await });
}

/// The port appears a few milliseconds after PID 1 starts.
async fn open_port() -> Result<VirtioPort> {
    let mut pause = Duration::from_micros(250);
    loop {
        if let Some(path) = find_virtio_port(PORT_NAME) {
            return VirtioPort::open(&path).doing(|| format!("opening {}", path.display()));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
