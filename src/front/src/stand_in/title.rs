//! The command line that ps(1) shows: the workload's. Whoever started this process left room for it in its arguments.

use std::ffi::CString;
use std::fs;

/// Bytes that `title` takes.
pub fn length(title: &[String]) -> usize {
    title.iter().map(|argument| argument.len() + 1).sum()
}

/// Overwrites the arguments of this process. As much as there is room for; names no longer than 15 bytes reach comm.
pub fn show(title: &[String]) {
    let Some(program) = title.first() else { return };
    let name = program.rsplit('/').next().unwrap_or(program);
    if let Ok(name) = CString::new(name) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    let Some((start, end)) = arguments() else { return };
    let mut text: Vec<u8> = title
        .iter()
        .flat_map(|argument| [argument.as_bytes(), b"\0"].concat())
        .collect();
    text.resize(end - start, 0);
    if let Some(last) = text.last_mut() {
        // Otherwise the kernel would look for the rest in the environment.
        *last = 0;
    }
    // SAFETY: the kernel says that the arguments of this process lie there, on its writable stack; std has copied what it
    // needs only as pointers, and nobody reads them any more.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), start as *mut u8, text.len()) }
}

/// Fields 48 and 49 of /proc/self/stat.
fn arguments() -> Option<(usize, usize)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ').skip(45);
    let start: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.trim().parse().ok()?;
    (start != 0 && end > start).then_some((start, end))
}
