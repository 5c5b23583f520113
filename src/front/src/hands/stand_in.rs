use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value, json};

use super::Refusal;
use crate::stand_in::title;

/// Linux takes no longer argument.
const MOST_TITLE: usize = (128 << 10) - 1;

/// Starts a stand-in in the caller's namespaces (docs/stand-in.md). It is nobody's child here: the process executed now
/// forks it and ends.
pub fn start(request: &Value) -> Result<Value, Refusal> {
    let refused = |error: std::io::Error| Refusal {
        errno: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
        message: format!("cannot start a stand-in: {error}"),
    };
    let (mut ours, theirs) = UnixStream::pair().map_err(refused)?;
    let number = theirs.as_fd().as_raw_fd();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(crate::STAND_IN).arg(number.to_string()).env_clear();
    let title = request["title"].as_array().into_iter().flatten();
    let title: Vec<String> = title.filter_map(|word| Some(word.as_str()?.to_owned())).collect();
    // Room for what is shown later as its command line.
    command.arg(" ".repeat(title::length(&title).min(MOST_TITLE)));
    if request["stdio"] != "inherit" {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    // SAFETY: fcntl is async-signal-safe. The number stays what it is: anything else could be in use by std here.
    unsafe {
        command.pre_exec(move || {
            let fd = std::os::fd::BorrowedFd::borrow_raw(number);
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
    let mut child = command.spawn().map_err(refused)?;
    drop(theirs);
    let answer = (|| {
        ours.write_all(request.to_string().as_bytes())?;
        ours.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        ours.read_to_end(&mut answer)?;
        Ok(answer)
    })();
    let _ = child.wait();
    let answer: Value = serde_json::from_slice(&answer.map_err(refused)?).unwrap_or_default();
    match answer["pid"].as_i64() {
        Some(pid) => Ok(json!({ "pid": pid })),
        None => Err(Refusal {
            errno: Errno::from_raw(answer["errno"].as_i64().map_or(libc::EIO, |errno| errno as i32)),
            message: answer["message"]
                .as_str()
                .unwrap_or("the stand-in ended without an answer")
                .to_owned(),
        }),
    }
}
