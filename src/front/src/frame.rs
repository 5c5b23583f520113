//! Frames of docs/wire.md: `u32 length · u8 kind · body`, little-endian.

use std::io::{self, Read};

/// What `length` may be at most.
pub const LIMIT: usize = (1 << 20) + 64;
/// HELLO alone may be longer: it holds what `execve` let through, up to 6 MiB of arguments and environment.
pub const HELLO_LIMIT: usize = 8 << 20;
/// Bytes of a stream in one frame.
pub const CHUNK: usize = 64 << 10;

pub mod kind {
    pub const HELLO: u8 = 0x01;
    pub const RESUME: u8 = 0x02;
    pub const STDIN: u8 = 0x03;
    pub const STDIN_END: u8 = 0x04;
    pub const WINDOW: u8 = 0x05;
    pub const SIGNAL: u8 = 0x06;
    pub const WRITTEN: u8 = 0x07;
    pub const EXIT_ACK: u8 = 0x08;
    pub const HAND_DONE: u8 = 0x09;
    pub const OUTPUT_GONE: u8 = 0x0a;
    /// Only of a stand-in, and so is the next.
    pub const SERVER_ENDED: u8 = 0x0b;
    pub const SHARES_CLOSED: u8 = 0x0c;
    pub const OUTGROWN: u8 = 0x0d;

    pub const ACCEPTED: u8 = 0x81;
    pub const REFUSED: u8 = 0x82;
    pub const STDOUT: u8 = 0x83;
    pub const STDERR: u8 = 0x84;
    pub const STDIN_OPEN: u8 = 0x85;
    pub const TERMINAL: u8 = 0x86;
    pub const SIGNALS: u8 = 0x87;
    pub const TOKEN: u8 = 0x88;
    pub const EXIT: u8 = 0x89;
    pub const HAND: u8 = 0x8a;
    pub const STDIN_CLOSED: u8 = 0x8b;
    /// Only to a stand-in.
    pub const CLOSE_SHARES: u8 = 0x8c;
    pub const OUTGROW: u8 = 0x8d;
}

/// A whole frame, ready to be written.
pub fn encode(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend_from_slice(&(length as u32).to_le_bytes());
    frame.push(kind);
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

/// A _list_: `u32 count`, then `u32 length` and the bytes of each.
pub fn push_list<'a>(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = &'a [u8]>) {
    out.extend_from_slice(&(items.len() as u32).to_le_bytes());
    for item in items {
        push_bytes(out, item);
    }
}

pub fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A frame inside the reader's buffer.
pub struct Frame<'a> {
    pub kind: u8,
    pub body: Body<'a>,
}

/// The unread rest of a frame's body. Reading past its end is a protocol error.
pub struct Body<'a>(pub &'a [u8]);

impl<'a> Body<'a> {
    pub fn bytes(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| broken("a frame is shorter than its fields"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    pub fn u8(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn token(&mut self) -> io::Result<[u8; 32]> {
        self.array()
    }

    /// `u32 length` and that many bytes.
    pub fn sized(&mut self) -> io::Result<&'a [u8]> {
        let length = self.u32()?;
        self.bytes(length as usize)
    }

    pub fn list(&mut self) -> io::Result<Vec<&'a [u8]>> {
        let count = self.u32()?;
        (0..count).map(|_| self.sized()).collect()
    }
}

/// The peer does not keep to docs/wire.md.
pub fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Cuts a byte stream into frames; keeps what a timed-out read left half.
pub struct FrameReader {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
}

const SMALLEST_BUFFER: usize = CHUNK + 64;

impl FrameReader {
    pub fn new(limit: usize) -> Self {
        FrameReader {
            buffer: vec![0; SMALLEST_BUFFER],
            start: 0,
            end: 0,
            limit,
        }
    }

    /// The next frame, or `None` at an end of the stream between two frames.
    pub fn next(&mut self, source: &mut impl Read) -> io::Result<Option<Frame<'_>>> {
        loop {
            let ready = self.end - self.start;
            let wanted = match self.length()? {
                Some(length) if ready >= 4 + length => {
                    let at = self.start + 4;
                    self.start = at + length;
                    let whole = &self.buffer[at..at + length];
                    return Ok(Some(Frame {
                        kind: whole[0],
                        body: Body(&whole[1..]),
                    }));
                }
                Some(length) => 4 + length,
                None => 4,
            };
            self.make_room(wanted);
            match source.read(&mut self.buffer[self.end..]) {
                Ok(0) if ready == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn length(&self) -> io::Result<Option<usize>> {
        let Some(head) = self.buffer[self.start..self.end].first_chunk::<4>() else {
            return Ok(None);
        };
        match u32::from_le_bytes(*head) as usize {
            0 => Err(broken("a frame is empty")),
            length if length > self.limit => Err(broken("a frame is too long")),
            length => Ok(Some(length)),
        }
    }

    fn make_room(&mut self, wanted: usize) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let size = wanted.max(SMALLEST_BUFFER);
        if self.buffer.len() < size || self.buffer.len() > 2 * size {
            self.buffer.resize(size.max(self.end), 0);
            self.buffer.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and a time-out before each.
    struct Drip<'a>(&'a [u8], bool);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.read(&mut out[..1])
        }
    }

    #[test]
    fn cuts_frames_however_the_bytes_arrive() {
        let big = vec![7; 300_000];
        let bytes = [encode(1, &[b"ab", b"c"]), encode(2, &[]), encode(3, &[&big])].concat();
        let mut source = Drip(&bytes, false);
        let mut reader = FrameReader::new(LIMIT);
        let mut seen = Vec::new();
        loop {
            match reader.next(&mut source) {
                Ok(Some(frame)) => seen.push((frame.kind, frame.body.0.to_vec())),
                Ok(None) => break,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(seen, [(1, b"abc".to_vec()), (2, vec![]), (3, big)]);
    }

    #[test]
    fn refuses_lengths_outside_the_contract() {
        for length in [0, LIMIT as u32 + 1, u32::MAX] {
            let mut reader = FrameReader::new(LIMIT);
            let error = reader.next(&mut &length.to_le_bytes()[..]).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn an_end_inside_a_frame_is_no_end() {
        let bytes = encode(1, &[b"abc"]);
        let error = FrameReader::new(LIMIT).next(&mut &bytes[..6]).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn fields_end_with_their_frame() {
        let mut list = Vec::new();
        push_list(&mut list, [&b"one"[..], b"", b"\xff"].into_iter());
        assert_eq!(Body(&list).list().unwrap(), [&b"one"[..], b"", b"\xff"]);
        assert!(Body(&list[..list.len() - 1]).list().is_err());
        assert!(Body(&[255; 4]).list().is_err());
    }
}
