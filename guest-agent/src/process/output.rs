//! What a process has written and the host has not yet safely stored.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Kept unacknowledged per stream; then the process blocks on its write.
pub const LIMIT: usize = 256 * 1024;
/// Largest piece sent at once.
pub const CHUNK: usize = 32 * 1024;

#[derive(Default)]
pub struct OutputBuffer {
    kept: VecDeque<u8>,
    /// Offset of the first kept byte in the whole stream.
    start: u64,
    /// Nothing more will come.
    ended: bool,
    /// Nobody wants more.
    unwanted: bool,
}

impl OutputBuffer {
    pub fn room(&self) -> usize {
        LIMIT.saturating_sub(self.kept.len())
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
    }

    pub fn finish(&mut self) {
        self.ended = true;
    }

    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The process is to learn that nobody reads what it writes.
    pub fn refuse(&mut self) {
        self.unwanted = true;
    }

    pub fn unwanted(&self) -> bool {
        self.unwanted
    }

    /// Length of the whole stream so far.
    pub fn length(&self) -> u64 {
        self.start + self.kept.len() as u64
    }

    /// Drops what lies below `offset`. False when the stream is not that long.
    pub fn acknowledge(&mut self, offset: u64) -> bool {
        if offset > self.length() {
            return false;
        }
        let count = offset.saturating_sub(self.start) as usize;
        self.kept.drain(..count);
        self.start += count as u64;
        if self.kept.is_empty() && self.kept.capacity() > CHUNK {
            self.kept = VecDeque::new();
        }
        true
    }

    /// The next piece from `offset` on, and where it really starts: what was acknowledged is gone.
    pub fn read(&self, offset: u64) -> Option<(u64, Bytes)> {
        let from = offset.max(self.start);
        let skip = (from - self.start) as usize;
        let length = self.kept.len().saturating_sub(skip).min(CHUNK);
        if length == 0 {
            return None;
        }
        let mut piece = BytesMut::with_capacity(length);
        let (head, tail) = self.kept.as_slices();
        let in_head = head.get(skip..).unwrap_or(&[]);
        let from_head = &in_head[..in_head.len().min(length)];
        piece.extend_from_slice(from_head);
        let tail_skip = skip.saturating_sub(head.len());
        piece.extend_from_slice(&tail[tail_skip.min(tail.len())..][..length - from_head.len()]);
        Some((from, piece.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replays_what_is_not_acknowledged() {
        let mut buffer = OutputBuffer::default();
        buffer.push(b"hello ");
        buffer.push(b"world");
        assert_eq!(buffer.read(0).unwrap(), (0, Bytes::from_static(b"hello world")));
        assert_eq!(buffer.read(6).unwrap(), (6, Bytes::from_static(b"world")));
        assert!(buffer.acknowledge(6));
        assert_eq!(buffer.read(0).unwrap(), (6, Bytes::from_static(b"world")));
        assert!(buffer.acknowledge(3), "an old acknowledgement changes nothing");
        assert!(!buffer.acknowledge(12), "nobody can have seen what was never written");
        assert!(buffer.acknowledge(11));
        assert_eq!(buffer.read(11), None);
        assert_eq!(buffer.length(), 11);
    }

    #[test]
    fn gives_every_byte_once_across_the_seam_of_the_ring() {
        let mut buffer = OutputBuffer::default();
        let (mut written, mut seen) = (0u64, 0u64);
        for step in 0..2000usize {
            let piece: Vec<u8> = (0..(step * 37) % 5000)
                .map(|index| (written + index as u64) as u8)
                .collect();
            if buffer.room() >= piece.len() {
                written += piece.len() as u64;
                buffer.push(&piece);
            }
            if let Some((from, bytes)) = buffer.read(seen) {
                assert_eq!(from, seen);
                assert!(
                    bytes
                        .iter()
                        .enumerate()
                        .all(|(index, byte)| *byte == (seen + index as u64) as u8)
                );
                seen += bytes.len() as u64;
            }
            assert!(buffer.acknowledge(seen - seen % 3));
        }
        assert!(written > LIMIT as u64);
    }

    #[test]
    fn holds_no_more_than_its_limit() {
        let mut buffer = OutputBuffer::default();
        buffer.push(&vec![0; LIMIT]);
        assert_eq!(buffer.room(), 0);
    }
}
