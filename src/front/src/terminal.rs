//! The terminal of stdin, which is the caller's: whatever way this process ends, it gets it back as it was.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use nix::errno::Errno;

static ORIGINAL: OnceLock<libc::termios> = OnceLock::new();
static RAW: AtomicBool = AtomicBool::new(false);
/// Held by who changes the mode outside of a signal handler, and for ever by who leaves.
static CHANGE: Mutex<()> = Mutex::new(());

pub fn is_terminal(fd: i32) -> bool {
    // SAFETY: isatty only takes a number.
    unsafe { libc::isatty(fd) == 1 }
}

/// Rows and columns of the terminal of stdin or stdout; a terminal that knows no size has none.
pub fn size() -> Option<(u16, u16)> {
    [0, 1].into_iter().find_map(|fd| {
        let mut size = MaybeUninit::<libc::winsize>::zeroed();
        // SAFETY: TIOCGWINSZ fills a winsize.
        let size = unsafe {
            match libc::ioctl(fd, libc::TIOCGWINSZ, size.as_mut_ptr()) {
                0 => size.assume_init(),
                _ => return None,
            }
        };
        (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
    })
}

/// Puts the terminal of stdin into raw mode, as it found it the first time. Stops (SIGTTOU) in the background.
pub fn make_raw() {
    let _turn = CHANGE.lock();
    if let Some(original) = original() {
        RAW.store(true, Ordering::SeqCst);
        set_raw(original);
    }
}

/// After SIGCONT: a shell that stopped this job has set its own modes meanwhile.
pub fn make_raw_again() {
    let _turn = CHANGE.lock();
    if let Some(original) = ORIGINAL.get().filter(|_| RAW.load(Ordering::SeqCst)) {
        set_raw(original);
    }
}

fn set_raw(original: &libc::termios) {
    let mut raw = *original;
    // SAFETY: both only touch the termios given.
    unsafe {
        libc::cfmakeraw(&mut raw);
        while libc::tcsetattr(0, libc::TCSANOW, &raw) != 0 && Errno::last() == Errno::EINTR {}
    }
}

/// The last thing before the process ends: nobody makes the terminal raw after it.
pub fn restore_for_good() {
    std::mem::forget(CHANGE.lock());
    restore();
}

pub fn is_raw() -> bool {
    RAW.load(Ordering::SeqCst)
}

/// Gives the terminal back. Async-signal-safe. In the background it is left alone: the shell has set it for itself.
pub fn restore() {
    if !RAW.swap(false, Ordering::SeqCst) {
        return;
    }
    let Some(original) = ORIGINAL.get() else { return };
    // SAFETY: these calls are async-signal-safe and only read the termios.
    unsafe {
        let foreground = libc::tcgetpgrp(0);
        if foreground == -1 || foreground == libc::getpgrp() {
            libc::tcsetattr(0, libc::TCSANOW, original);
        }
    }
}

fn original() -> Option<&'static libc::termios> {
    if ORIGINAL.get().is_none() {
        let mut found = MaybeUninit::<libc::termios>::zeroed();
        // SAFETY: tcgetattr fills a termios where stdin is a terminal.
        let found = unsafe {
            match libc::tcgetattr(0, found.as_mut_ptr()) {
                0 => found.assume_init(),
                _ => return None,
            }
        };
        let _ = ORIGINAL.set(found);
    }
    ORIGINAL.get()
}
