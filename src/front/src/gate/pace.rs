use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What may pass at once.
const SLACK: Duration = Duration::from_millis(100);
const NANOS: u128 = 1_000_000_000;

/// Holds one direction to a rate by waiting: what waits fills the sockets before it, and by that its sender is told.
pub struct Pace {
    /// `None`: no rate.
    bytes_per_second: Option<u64>,
    /// When all that has passed would have passed at the rate.
    due: Instant,
}

impl Pace {
    pub fn new(bytes_per_second: Option<u64>) -> Pace {
        Pace {
            bytes_per_second,
            due: Instant::now(),
        }
    }

    /// After so many bytes have passed. Returns at once when `from` is gone.
    pub fn wait(&mut self, bytes: usize, from: &UnixStream) {
        let Some(pause) = self.pause(bytes, Instant::now()) else {
            return;
        };
        let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
        // No event is asked for: those that matter are told anyway.
        let _ = poll(&mut [PollFd::new(from.as_fd(), PollFlags::empty())], timeout);
    }

    fn pause(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        let rate = u128::from(self.bytes_per_second?.max(1));
        let nanos = u64::try_from(bytes as u128 * NANOS / rate).unwrap_or(u64::MAX);
        self.due = self.due.max(now) + Duration::from_nanos(nanos);
        self.due.checked_duration_since(now + SLACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_as_long_as_the_bytes_take_but_for_a_little_at_once() {
        let mut pace = Pace::new(Some(1000));
        let now = Instant::now();
        assert_eq!(pace.pause(100, now), Some(Duration::ZERO));
        assert_eq!(pace.pause(1000, now), Some(Duration::from_secs(1)));
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.pause(50, later), None);
        assert_eq!(Pace::new(None).pause(usize::MAX, now), None);
    }

    #[test]
    fn waits_for_nobody_who_is_gone() {
        let (from, other) = UnixStream::pair().unwrap();
        drop(other);
        let begun = Instant::now();
        Pace::new(Some(1)).wait(1000, &from);
        assert!(begun.elapsed() < Duration::from_secs(500));
    }
}
