//! What the host has sent to a process and the process has not yet read.

use std::collections::VecDeque;

/// The host never sends beyond what was accepted plus this.
pub const WINDOW: u64 = 65536;

#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// Starts beyond the end of what is here.
    Gap,
    /// Reaches beyond the window.
    BeyondWindow,
}

pub struct InputBuffer {
    pending: VecDeque<u8>,
    /// Bytes the process took, or that were discarded because it takes no more.
    accepted: u64,
    end_at: Option<u64>,
    closed: bool,
}

impl InputBuffer {
    /// `open`: there is something to write to.
    pub fn new(open: bool) -> Self {
        Self {
            pending: VecDeque::new(),
            accepted: 0,
            end_at: None,
            closed: !open,
        }
    }

    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Bytes below what is here already are ignored, so resending is safe.
    pub fn receive(&mut self, offset: u64, data: &[u8]) -> Result<(), Refused> {
        let received = self.accepted + self.pending.len() as u64;
        let end = offset.saturating_add(data.len() as u64);
        if offset > received {
            return Err(Refused::Gap);
        }
        if end > self.accepted + WINDOW {
            return Err(Refused::BeyondWindow);
        }
        let fresh = &data[data.len().min((received - offset) as usize)..];
        if self.closed {
            self.accepted += fresh.len() as u64;
        } else {
            self.pending.extend(fresh);
        }
        Ok(())
    }

    pub fn end(&mut self, offset: u64) -> Result<(), Refused> {
        if offset > self.accepted + self.pending.len() as u64 {
            return Err(Refused::Gap);
        }
        self.end_at = Some(offset);
        Ok(())
    }

    /// What to write next; empty when there is nothing.
    pub fn next(&self) -> &[u8] {
        self.pending.as_slices().0
    }

    pub fn written(&mut self, count: usize) {
        self.pending.drain(..count);
        self.accepted += count as u64;
    }

    /// Everything was written and the host has said that nothing more comes.
    pub fn at_end(&self) -> bool {
        self.pending.is_empty() && self.end_at.is_some_and(|end| end <= self.accepted)
    }

    /// The process reads no more; what is pending is discarded.
    pub fn close(&mut self) {
        self.accepted += self.pending.len() as u64;
        self.pending = VecDeque::new();
        self.closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignores_what_it_has_and_refuses_gaps() {
        let mut input = InputBuffer::new(true);
        input.receive(0, b"abc").unwrap();
        input.receive(1, b"bcd").unwrap();
        assert_eq!(input.next(), b"abcd");
        assert_eq!(input.receive(5, b"x"), Err(Refused::Gap));
        input.written(4);
        input.receive(0, b"abcd").unwrap();
        assert_eq!((input.accepted(), input.next()), (4, &b""[..]));
    }

    #[test]
    fn refuses_more_than_the_window() {
        let mut input = InputBuffer::new(true);
        input.receive(0, &vec![0; WINDOW as usize]).unwrap();
        assert_eq!(input.receive(WINDOW, b"x"), Err(Refused::BeyondWindow));
        assert_eq!(input.receive(u64::MAX, b"x"), Err(Refused::Gap));
    }

    #[test]
    fn ends_after_the_last_byte() {
        let mut input = InputBuffer::new(true);
        input.receive(0, b"ab").unwrap();
        assert_eq!(input.end(3), Err(Refused::Gap));
        input.end(2).unwrap();
        assert!(!input.at_end());
        input.written(2);
        assert!(input.at_end());
    }

    #[test]
    fn discards_once_closed() {
        let mut input = InputBuffer::new(true);
        input.receive(0, b"abc").unwrap();
        input.close();
        input.receive(3, b"def").unwrap();
        assert_eq!((input.accepted(), input.next()), (6, &b""[..]));
    }
}
