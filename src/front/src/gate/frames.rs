use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use super::pace::Pace;

/// Each frame comes after its length, four bytes, big endian: the form of QEMU's stream sockets and of passt.
const PREFIX: usize = 4;
/// An Ethernet frame with the largest IP packet, and room for a tag.
const MOST_BYTES: usize = 65_535 + 18;
/// Several large frames at once: a system call for each would cost more than what they carry.
const BUFFER: usize = 4 * (PREFIX + MOST_BYTES);

/// An end that frames are written to, whole, by more than one.
pub struct Sink(Mutex<UnixStream>);

impl Sink {
    pub fn new(stream: UnixStream) -> Sink {
        Sink(Mutex::new(stream))
    }

    /// Frames, each after its length. False when nobody is there any more.
    pub fn put(&self, frames: &[u8]) -> bool {
        let mut stream = self.0.lock().expect("no thread of the gate panics");
        stream.write_all(frames).is_ok()
    }
}

/// Passes frames on, not faster than `pace`, until an end is gone or says something that is no frame. `lets` decides on
/// each.
pub fn pass_on(mut from: &UnixStream, to: &Sink, mut pace: Pace, mut lets: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        match from.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => return,
            Ok(count) => filled += count,
        }
        let Some(Sifted { passing, taken }) = sift(&mut buffer[..filled], &mut lets) else {
            return;
        };
        if !to.put(&buffer[..passing]) {
            return;
        }
        buffer.copy_within(taken..filled, 0);
        filled -= taken;
        pace.wait(passing, from);
    }
}

struct Sifted {
    /// Bytes of frames to pass on, at the beginning of the buffer.
    passing: usize,
    /// Bytes that were looked at: whole frames.
    taken: usize,
}

/// Moves the frames that pass to the front. `None` for what is no frame.
fn sift(bytes: &mut [u8], lets: &mut impl FnMut(&[u8]) -> bool) -> Option<Sifted> {
    let (mut passing, mut taken) = (0, 0);
    while let Some(prefix) = bytes[taken..].first_chunk::<PREFIX>() {
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MOST_BYTES {
            return None;
        }
        let (start, end) = (taken + PREFIX, taken + PREFIX + length);
        if end > bytes.len() {
            break;
        }
        if lets(&bytes[start..end]) {
            bytes.copy_within(taken..end, passing);
            passing += PREFIX + length;
        }
        taken = end;
    }
    Some(Sifted { passing, taken })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(frames: &[&[u8]]) -> Vec<u8> {
        frames
            .iter()
            .flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[..], frame].concat())
            .collect()
    }

    #[test]
    fn passes_whole_frames_in_order_without_those_that_may_not() {
        let mut bytes = framed(&[b"one", b"bad", b"", b"three", b"bad"]);
        bytes.extend_from_slice(&[0, 0, 0, 9, b'h', b'a']);
        let Sifted { passing, taken } = sift(&mut bytes, &mut |frame| frame != b"bad").unwrap();
        assert_eq!(bytes[..passing], framed(&[b"one", b"", b"three"]));
        assert_eq!(bytes[taken..], [0, 0, 0, 9, b'h', b'a']);
    }

    #[test]
    fn does_not_believe_in_a_frame_that_is_larger_than_a_packet() {
        assert!(sift(&mut [0, 1, 0, 18, 0], &mut |_| true).is_none());
        assert!(sift(&mut [255, 255, 255, 255], &mut |_| true).is_none());
        assert!(sift(&mut [0, 1, 0, 17, 0], &mut |_| true).is_some());
    }

    #[test]
    fn a_frame_that_arrives_byte_by_byte_arrives() {
        let (writer, from) = UnixStream::pair().unwrap();
        let (to, mut reader) = UnixStream::pair().unwrap();
        let passing = std::thread::spawn(move || pass_on(&from, &Sink::new(to), Pace::new(None), |_| true));
        let whole = framed(&[b"hello", &[7; MOST_BYTES]]);
        let sent = whole.clone();
        std::thread::spawn(move || {
            let (first, rest) = sent.split_at(9);
            for byte in first {
                (&writer).write_all(&[*byte]).unwrap();
            }
            (&writer).write_all(rest).unwrap();
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        passing.join().unwrap();
        assert!(received == whole);
    }
}
