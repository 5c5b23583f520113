//! Programs of the caller: the hooks of a bundle, and ps(1).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use super::{Refusal, text};

/// What is kept of each output; the rest is read and dropped.
const MOST_OUTPUT: u64 = 512 << 10;
const LAST_WORDS: usize = 4 << 10;

/// Makes this process another program, with its stdio, environment and descriptors; comes back only when that fails.
pub fn become_program(request: &Value) -> Refusal {
    match command(request) {
        Ok(mut command) => refused(command.exec()),
        Err(errno) => errno.into(),
    }
}

/// Runs one program to its end: `stdin` is all it gets, its stdout is what comes back.
pub fn run(request: &Value, stdin: &[u8]) -> Result<(Value, Vec<u8>), Refusal> {
    let mut command = command(request)?;
    if let Some(environment) = strings(request, "env")? {
        command.env_clear();
        command.envs(environment.iter().filter_map(|variable| variable.split_once('=')));
    }
    if let Some(directory) = request["cwd"].as_str() {
        command.current_dir(directory);
    }
    if let Some(pid) = request["namespacesOf"].as_i64() {
        let joined = ["net", "ipc", "uts"].map(|name| File::open(format!("/proc/{pid}/ns/{name}")));
        let joined = joined.into_iter().collect::<io::Result<Vec<_>>>().map_err(refused)?;
        // SAFETY: setns is one system call on descriptors that live until the program is executed.
        unsafe {
            command.pre_exec(move || {
                for namespace in &joined {
                    setns(namespace, CloneFlags::empty())?;
                }
                Ok(())
            });
        }
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A group of its own, so that what it started can be ended with it.
    command.process_group(0);
    let child = command.spawn().map_err(refused)?;
    let limit = request["timeoutMs"].as_u64().filter(|&limit| limit > 0);
    Ok(follow(child, stdin, limit.map(Duration::from_millis)))
}

fn command(request: &Value) -> Result<Command, Errno> {
    let mut command = Command::new(text(request, "path")?);
    let arguments = strings(request, "args")?.unwrap_or_default();
    if let Some((name, rest)) = arguments.split_first() {
        command.arg0(name).args(rest);
    }
    Ok(command)
}

fn refused(error: io::Error) -> Refusal {
    Refusal {
        errno: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
        message: String::new(),
    }
}

fn follow(mut child: Child, stdin: &[u8], limit: Option<Duration>) -> (Value, Vec<u8>) {
    let pid = child.id() as i32;
    let (over, ended) = mpsc::channel::<()>();
    let watch = limit.map(|limit| {
        thread::spawn(move || {
            let timed_out = ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
            if timed_out {
                // SAFETY: kill takes numbers. The group exists: its leader is not reaped before this thread ends.
                unsafe { libc::kill(-pid, libc::SIGKILL) };
            }
            timed_out
        })
    });
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (output, words) = thread::scope(|scope| {
        let output = scope.spawn(|| stdout.map_or_else(Vec::new, most_of));
        let words = scope.spawn(|| stderr.map_or_else(Vec::new, most_of));
        if let Some(mut input) = child.stdin.take() {
            // A program that does not read what it is told need not.
            let _ = input.write_all(stdin);
        }
        (output.join().unwrap_or_default(), words.join().unwrap_or_default())
    });
    // SAFETY: siginfo is plain data that waitid fills. Not reaped yet: the watch may still kill the group.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOWAIT;
        while libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, flags) != 0 && Errno::last() == Errno::EINTR {}
    }
    drop(over);
    let timed_out = watch.is_some_and(|watch| watch.join().unwrap_or(false));
    let status = child.wait().ok();
    let words = &words[words.len().saturating_sub(LAST_WORDS)..];
    let result = json!({
        "code": status.and_then(|status| status.code()),
        "signal": status.and_then(|status| status.signal()),
        "timedOut": timed_out,
        "stderr": String::from_utf8_lossy(words),
    });
    (result, output)
}

/// Reads to the end, so that the program never waits, and keeps the beginning.
fn most_of(mut source: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let _ = source.by_ref().take(MOST_OUTPUT).read_to_end(&mut kept);
    let _ = io::copy(&mut source, &mut io::sink());
    kept
}

fn strings(request: &Value, field: &str) -> Result<Option<Vec<String>>, Errno> {
    let Some(items) = request[field].as_array() else {
        return Ok(None);
    };
    let strings = items.iter().map(|item| item.as_str().map(str::to_owned));
    strings.collect::<Option<_>>().map(Some).ok_or(Errno::EINVAL)
}
