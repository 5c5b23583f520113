//! Frames of the link: encoding, and a decoder that finds its way back after any garbage.

use bytes::{Buf, Bytes, BytesMut};

pub const MAGIC: [u8; 4] = *b"hRL1";
pub const HEADER_LEN: usize = 20;
pub const MAX_PAYLOAD: usize = 32768;
pub const MAX_FRAME: usize = HEADER_LEN + MAX_PAYLOAD;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Open = 1,
    Opened = 2,
    Data = 3,
    Close = 4,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub epoch: u64,
    pub kind: Kind,
    pub payload: Bytes,
}

/// Appends one frame to `out`.
///
/// # Panics
/// When the payload is longer than [`MAX_PAYLOAD`].
pub fn encode(out: &mut BytesMut, epoch: u64, kind: Kind, payload: &[u8]) {
    assert!(
        payload.len() <= MAX_PAYLOAD,
        "a frame carries at most {MAX_PAYLOAD} bytes"
    );
    let mut header = [0u8; HEADER_LEN];
    header[0..4].copy_from_slice(&MAGIC);
    header[4..12].copy_from_slice(&epoch.to_le_bytes());
    header[12] = kind as u8;
    header[14..16].copy_from_slice(&(payload.len() as u16).to_le_bytes());
    let check = crc32(&header[0..16]);
    header[16..20].copy_from_slice(&check.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
}

/// Turns bytes into frames. Holds at most one frame; whatever is no frame costs its own bytes and nothing else.
#[derive(Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// How many bytes may be pushed now; 0 only while [`Decoder::next`] still has a frame to give.
    pub fn room(&self) -> usize {
        MAX_FRAME - self.buffer.len()
    }

    /// Takes up to [`Decoder::room`] bytes and says how many.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.buffer.extend_from_slice(&bytes[..taken]);
        taken
    }

    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            self.skip_to_magic();
            let header = self.buffer.first_chunk::<HEADER_LEN>()?;
            let Some(Header {
                epoch,
                kind,
                flags,
                length,
            }) = Header::parse(header)
            else {
                self.buffer.advance(1);
                continue;
            };
            if self.buffer.len() < HEADER_LEN + length {
                return None;
            }
            self.buffer.advance(HEADER_LEN);
            let payload = self.buffer.split_to(length).freeze();
            let well_formed = flags == 0 && epoch != 0;
            match Kind::from_wire(kind) {
                Some(Kind::Data) if well_formed && length > 0 => {
                    return Some(Frame {
                        epoch,
                        kind: Kind::Data,
                        payload,
                    });
                }
                Some(kind) if well_formed && length == 0 && kind != Kind::Data => {
                    return Some(Frame { epoch, kind, payload });
                }
                _ => {}
            }
        }
    }

    /// Drops everything that cannot be the start of a header.
    fn skip_to_magic(&mut self) {
        let start = (0..self.buffer.len())
            .find(|&at| MAGIC.starts_with(&self.buffer[at..self.buffer.len().min(at + MAGIC.len())]))
            .unwrap_or(self.buffer.len());
        self.buffer.advance(start);
    }
}

struct Header {
    epoch: u64,
    kind: u8,
    flags: u8,
    length: usize,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let field = |from: usize, to: usize| {
            bytes[from..to]
                .iter()
                .rev()
                .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let length = field(14, 16) as usize;
        let valid = bytes[0..4] == MAGIC && length <= MAX_PAYLOAD && field(16, 20) == u64::from(crc32(&bytes[0..16]));
        valid.then(|| Self {
            epoch: field(4, 12),
            kind: bytes[12],
            flags: bytes[13],
            length,
        })
    }
}

impl Kind {
    fn from_wire(kind: u8) -> Option<Self> {
        [Self::Open, Self::Opened, Self::Data, Self::Close]
            .into_iter()
            .find(|known| *known as u8 == kind)
    }
}

/// CRC-32 (IEEE) of a header. Bit by bit: 16 bytes need no table.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests;
