//! The only native code of hrun on the host. One binary, five roles, told apart by `argv[0]`, which no user's
//! argument can reach: the front door (docs/wire.md), the keeper of the daemon, the stand-in (docs/stand-in.md), the
//! launcher of QEMU (docs/security.md), and the gate of a guest's network (docs/network.md).

pub mod frame;

mod connect;
mod door;
mod failure;
mod gate;
mod hands;
mod identity;
mod input;
mod jail;
mod keeper;
mod link;
mod mounts;
mod output;
mod paths;
mod run_directory;
mod signals;
mod stand_in;
mod sys;
mod terminal;

use std::os::unix::ffi::OsStrExt;

/// `argv[0]` of the roles that only hrun itself starts.
const KEEPER: &str = "hrun-keeper";
const STAND_IN: &str = "hrun-stand-in";
const JAIL: &str = "hrun-jail";
const GATE: &str = "hrun-gate";

pub fn main() -> ! {
    let started = sys::monotonic_ns();
    let role = std::env::args_os().next().unwrap_or_default();
    match role.as_bytes() {
        name if name == KEEPER.as_bytes() => keeper::main(),
        name if name == STAND_IN.as_bytes() => stand_in::main(),
        name if name == JAIL.as_bytes() => jail::main(),
        name if name == GATE.as_bytes() => gate::main(),
        _ => door::main(started),
    }
}
