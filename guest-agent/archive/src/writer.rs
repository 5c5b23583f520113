//! Headers of the tars written here: ustar, with a pax header in front where ustar is too small.

use rustix::fs::Timespec;

use crate::header::BLOCK;
use crate::pax::{push_record, xattr_key};
use crate::reader::Kind;
use crate::xattr::Xattr;

/// One member of an archive.
pub(crate) struct Member<'a> {
    pub name: &'a [u8],
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timespec,
    pub size: u64,
    pub link: &'a [u8],
    pub device: (u32, u32),
    pub xattrs: &'a [Xattr],
}

/// What ends an archive.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The header blocks of `member`.
pub(crate) fn header_of(member: &Member) -> Vec<u8> {
    let pax = pax_body(member);
    let mut blocks = Vec::with_capacity(3 * BLOCK + pax.len());
    if !pax.is_empty() {
        let extension = Member {
            name: b"././@PaxHeader",
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: pax.len() as u64,
            link: b"",
            device: (0, 0),
            xattrs: &[],
            ..*member
        };
        push_block(&mut blocks, &extension, b'x');
        blocks.extend_from_slice(&pax);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    }
    let kind = match member.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    push_block(&mut blocks, member, kind);
    blocks
}

fn pax_body(member: &Member) -> Vec<u8> {
    let mut body = Vec::new();
    let mut number = |key: &[u8], value: u64, digits: u32| {
        if value >> (3 * digits) != 0 {
            push_record(&mut body, key, value.to_string().as_bytes());
        }
    };
    number(b"size", member.size, 11);
    number(b"uid", member.uid.into(), 7);
    number(b"gid", member.gid.into(), 7);
    if member.name.len() > 100 {
        push_record(&mut body, b"path", member.name);
    }
    if member.link.len() > 100 {
        push_record(&mut body, b"linkpath", member.link);
    }
    let Timespec { tv_sec, tv_nsec } = member.mtime;
    if tv_nsec != 0 || tv_sec < 0 || tv_sec >> 33 != 0 {
        push_record(&mut body, b"mtime", decimal_time(tv_sec, tv_nsec).as_bytes());
    }
    for (name, value) in member.xattrs {
        push_record(&mut body, &xattr_key(name), value);
    }
    body
}

fn decimal_time(seconds: i64, nanoseconds: i64) -> String {
    let (sign, seconds, nanoseconds) = match (seconds < 0, nanoseconds) {
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (true, nanoseconds) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (false, nanoseconds) => ("", seconds.unsigned_abs(), nanoseconds),
    };
    match nanoseconds {
        0 => format!("{sign}{seconds}"),
        _ => format!("{sign}{seconds}.{nanoseconds:09}"),
    }
}

/// One header block; what does not fit is cut, because a pax header says it.
fn push_block(blocks: &mut Vec<u8>, member: &Member, kind: u8) {
    let mut block = [0; BLOCK];
    let mut text = |at: usize, room: usize, value: &[u8]| {
        let length = value.len().min(room);
        block[at..at + length].copy_from_slice(&value[..length]);
    };
    let octal = |value: u64, digits: usize| {
        let kept = value & ((1 << (3 * digits)) - 1);
        format!("{kept:0digits$o}").into_bytes()
    };
    text(0, 100, member.name);
    text(100, 8, &octal(member.mode.into(), 7));
    text(108, 8, &octal(member.uid.into(), 7));
    text(116, 8, &octal(member.gid.into(), 7));
    text(124, 12, &octal(member.size, 11));
    text(136, 12, &octal(member.mtime.tv_sec.max(0).unsigned_abs(), 11));
    text(148, 8, b"        ");
    text(156, 1, &[kind]);
    text(157, 100, member.link);
    text(257, 8, b"ustar\x0000");
    text(329, 8, &octal(member.device.0.into(), 7));
    text(337, 8, &octal(member.device.1.into(), 7));
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    block[148..154].copy_from_slice(&octal(sum, 6));
    block[154] = 0;
    blocks.extend_from_slice(&block);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::TarReader;

    fn round_trip(member: &Member) {
        let mut bytes = header_of(member);
        bytes.extend_from_slice(&END);
        let length = bytes.len() as u64 + member.size;
        let mut source = bytes.as_slice();
        let mut reader = TarReader::new(&mut source, length, "test".into(), 10);
        let entry = reader.next().unwrap().unwrap();
        assert_eq!(entry.name, member.name);
        assert_eq!(entry.kind, member.kind);
        assert_eq!((entry.uid, entry.gid), (member.uid, member.gid));
        assert_eq!(entry.mtime, member.mtime);
        assert_eq!(entry.size, member.size);
        assert_eq!(entry.link, member.link);
        assert_eq!(entry.device, member.device);
        assert_eq!(entry.xattrs, member.xattrs);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let plain = Member {
            name: b"a",
            kind: Kind::File,
            mode: 0o4755,
            uid: 1,
            gid: 2,
            mtime: Timespec { tv_sec: 1, tv_nsec: 0 },
            size: 0,
            link: b"",
            device: (0, 0),
            xattrs: &[],
        };
        assert_eq!(header_of(&plain).len(), BLOCK);
        round_trip(&plain);
        let xattrs = [(b"security.capability".to_vec(), (0..=255).collect())];
        let long = b"d/".repeat(1000);
        for (tv_sec, tv_nsec) in [(-1, 750_000_000), (-5, 0), (1 << 34, 1), (0, 999_999_999)] {
            round_trip(&Member {
                name: &long,
                kind: Kind::Directory,
                uid: u32::MAX - 1,
                gid: 1 << 21,
                mtime: Timespec { tv_sec, tv_nsec },
                xattrs: &xattrs,
                ..plain
            });
        }
        round_trip(&Member {
            kind: Kind::Symlink,
            link: &long,
            ..plain
        });
        round_trip(&Member {
            kind: Kind::BlockDevice,
            device: (259, 1_048_575),
            ..plain
        });
        round_trip(&Member { size: 9 << 30, ..plain });
    }
}
