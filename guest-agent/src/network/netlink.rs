//! Netlink messages (netlink(7)): requests are built, sent and answered here.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// More than the kernel puts into one datagram of a dump.
const BUFFER: usize = 64 << 10;

/// A request that grows: the header of its family first, then attributes.
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    pub fn new(kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(family_header);
        Self { bytes }
    }

    pub fn attribute(mut self, kind: u16, content: &[u8]) -> Self {
        // No content here is longer than a few bytes.
        let length = 4 + content.len() as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }
}

pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Of the family NETLINK_ROUTE.
    pub fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request and gives what it is answered, each without its header.
    pub fn request(&mut self, mut request: Request) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let length = request.bytes.len() as u32;
        request.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        request.bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        send(&self.socket, &request.bytes, SendFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            // The kernel has answered before `send` returns.
            let (count, _) = recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT)?;
            let mut rest = &buffer[..count.min(BUFFER)];
            while let Some((header, body, next)) = split_message(rest) {
                rest = next;
                match header.kind {
                    _ if header.sequence != self.sequence => {}
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        let errno = body.first_chunk().map_or(libc::EIO, |code| -i32::from_ne_bytes(*code));
                        return if errno == 0 {
                            Ok(answers)
                        } else {
                            Err(io::Error::from_raw_os_error(errno))
                        };
                    }
                    _ => answers.push(body.to_vec()),
                }
            }
        }
    }
}

struct Header {
    kind: u16,
    sequence: u32,
}

fn split_message(bytes: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let header = bytes.get(..HEADER)?;
    let length = u32::from_ne_bytes(*header.first_chunk()?) as usize;
    let body = bytes.get(HEADER..length)?;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    let sequence = u32::from_ne_bytes(*header[8..].first_chunk()?);
    let next = bytes.get(align(length)..).unwrap_or_default();
    Some((Header { kind, sequence }, body, next))
}

/// The first attribute of a kind in an answer, behind the header of its family.
pub fn attribute(answer: &[u8], family_header: usize, kind: u16) -> Option<&[u8]> {
    let mut rest = answer.get(family_header..)?;
    while rest.len() >= 4 {
        let length = u16::from_ne_bytes([rest[0], rest[1]]) as usize;
        let found = u16::from_ne_bytes([rest[2], rest[3]]);
        let content = rest.get(4..length)?;
        if found == kind {
            return Some(content);
        }
        rest = rest.get(align(length)..).unwrap_or_default();
    }
    None
}

fn align(length: usize) -> usize {
    (length + 3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_attributes_it_wrote() {
        let request = Request::new(16, 0, &[9; 16])
            .attribute(3, b"eth0\0")
            .attribute(4, &[1, 2, 3, 4]);
        let body = &request.bytes[HEADER..];
        assert_eq!(attribute(body, 16, 3), Some(&b"eth0\0"[..]));
        assert_eq!(attribute(body, 16, 4), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(body, 16, 5), None);
    }

    #[test]
    fn lists_the_interfaces_of_this_system() {
        let mut netlink = Netlink::open().unwrap();
        let answers = netlink.request(Request::new(18, NLM_F_DUMP, &[0; 16])).unwrap();
        let names = answers
            .iter()
            .filter_map(|answer| attribute(answer, 16, 3))
            .collect::<Vec<_>>();
        assert!(names.contains(&&b"lo\0"[..]), "{names:?}");
    }

    #[test]
    fn tells_the_errors_of_the_kernel() {
        let mut netlink = Netlink::open().unwrap();
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        let error = netlink.request(Request::new(18, 0, &header)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
