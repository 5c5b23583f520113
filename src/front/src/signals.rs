//! Signals. At first they do what they do to any process. With SIGNALS they become frames; with a raw terminal those
//! that end this process give the terminal back before.

use std::io::{self, Read};
use std::os::fd::IntoRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::frame::kind;
use crate::link::Link;
use crate::sys;
use crate::terminal;

pub const FORWARDED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// What else ends a process.
const FATAL: [Signal; 9] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGSYS,
    Signal::SIGALRM,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
];

/// Who cannot reach a daemon that is away leaves after as many interrupts.
const INTERRUPTS_TO_LEAVE: u32 = 3;

static NOTICE: AtomicI32 = AtomicI32::new(-1);

/// Sets all dispositions for a state of the terminal and of forwarding. Called by one thread only.
pub fn arrange(raw: bool, forward: bool, link: &'static Link) {
    if raw || forward {
        start_thread(link);
    }
    for (signal, ignored) in FORWARDED.into_iter().zip(ignored_by_caller()) {
        match (ignored, forward, raw) {
            (true, ..) => {}
            (_, true, _) => set(signal, SigHandler::Handler(notice)),
            (_, _, true) => set(signal, SigHandler::Handler(restore_and_die)),
            _ => set(signal, SigHandler::SigDfl),
        }
    }
    for signal in FATAL {
        set(
            signal,
            if raw {
                SigHandler::Handler(restore_and_die)
            } else {
                SigHandler::SigDfl
            },
        );
    }
    for signal in [Signal::SIGWINCH, Signal::SIGCONT] {
        set(
            signal,
            if raw || forward {
                SigHandler::Handler(notice)
            } else {
                SigHandler::SigDfl
            },
        );
    }
}

/// `nohup` and background jobs of a script: what the caller ignores stays ignored.
fn ignored_by_caller() -> [bool; FORWARDED.len()] {
    static IGNORED: OnceLock<[bool; FORWARDED.len()]> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        FORWARDED.map(|signal| {
            // SAFETY: asks for the disposition and changes nothing.
            unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal as i32, std::ptr::null(), &mut now);
                now.sa_sigaction == libc::SIG_IGN
            }
        })
    })
}

fn set(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: both handlers only make async-signal-safe calls.
    let _ = unsafe { sigaction(signal, &action) };
}

extern "C" fn notice(signal: i32) {
    let errno = Errno::last();
    // SAFETY: write is async-signal-safe; the pipe is never closed.
    unsafe { libc::write(NOTICE.load(Ordering::Relaxed), [signal as u8].as_ptr().cast(), 1) };
    errno.set();
}

extern "C" fn restore_and_die(signal: i32) {
    terminal::restore();
    // SAFETY: both are async-signal-safe. The signal is blocked here and takes effect on return.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

fn start_thread(link: &'static Link) {
    if NOTICE.load(Ordering::Relaxed) != -1 {
        return;
    }
    let (mut notices, notice) = io::pipe().expect("the kernel gives a pipe");
    NOTICE.store(notice.into_raw_fd(), Ordering::Relaxed);
    sys::spawn("signals", move || {
        // The caller may have started this process with some of them blocked.
        let _ = FORWARDED.into_iter().collect::<SigSet>().thread_unblock();
        let mut interrupts = (0, 0);
        let mut number = [0];
        while notices.read_exact(&mut number).is_ok() {
            let Ok(signal) = Signal::try_from(i32::from(number[0])) else {
                continue;
            };
            match signal {
                Signal::SIGWINCH => send_window(link),
                Signal::SIGCONT if terminal::is_raw() => {
                    terminal::make_raw_again();
                    send_window(link);
                }
                Signal::SIGCONT => {}
                _ => {
                    let sent = link.send_or_keep(kind::SIGNAL, &[&u32::from(number[0]).to_le_bytes()]);
                    if !sent && matches!(signal, Signal::SIGINT | Signal::SIGTERM) {
                        let absence = link.generation();
                        interrupts = (absence, if interrupts.0 == absence { interrupts.1 + 1 } else { 1 });
                        if interrupts.1 == INTERRUPTS_TO_LEAVE {
                            restore_and_die(signal as i32);
                        }
                    }
                }
            }
        }
    });
}

pub fn send_window(link: &Link) {
    if let Some((rows, columns)) = terminal::size() {
        link.send(kind::WINDOW, &[&rows.to_le_bytes(), &columns.to_le_bytes()]);
    }
}
