//! Extended headers of POSIX.1-2001: records of `length SP key = value NL`. Values are bytes.

use rustix::fs::Timespec;

use crate::header::until_nul;
use crate::sparse::{MAX_SEGMENTS, Segment};
use crate::xattr::Xattr;

/// Larger extended headers and GNU long names are refused: Linux limits a path to 4 KiB and all extended
/// attributes of an inode to 64 KiB on the file systems used here.
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;

pub(crate) const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an extended header says about the next entry.
#[derive(Default)]
pub(crate) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Timespec>,
    pub xattrs: Vec<Xattr>,
    pub sparse: PaxSparse,
}

/// The three generations of GNU's sparse files: 0.0 repeats `offset` and `numbytes`, 0.1 has `map`, 1.0 stores
/// the map in front of the data.
#[derive(Default)]
pub(crate) struct PaxSparse {
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    pub major: Option<u64>,
    pub segments: Vec<Segment>,
}

impl Pax {
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        let mut rest = body;
        while !rest.is_empty() {
            let (key, value, after) = record(rest).ok_or("a malformed extended header")?;
            pax.set(key, value)?;
            rest = after;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = optional(value, "an extended header with a bad size")?,
            b"uid" => self.uid = optional(value, "an extended header with a bad uid")?,
            b"gid" => self.gid = optional(value, "an extended header with a bad gid")?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => {
                let time = timestamp(value).ok_or("an extended header with a bad mtime")?;
                self.mtime = Some(time);
            }
            _ if key.starts_with(XATTR) => self.set_xattr(&key[XATTR.len()..], value)?,
            _ if key.starts_with(b"GNU.sparse.") => {
                let key = &key[b"GNU.sparse.".len()..];
                self.sparse
                    .set(key, value)
                    .ok_or("an extended header with a bad sparse map")?;
            }
            // Comments, user names, vendor extensions: nothing that lands on a disk.
            _ => {}
        }
        Ok(())
    }

    fn set_xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let name = unescape(key);
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err("an extended attribute with a bad name");
        }
        self.xattrs.retain(|(known, _)| *known != name);
        self.xattrs.push((name, value.to_vec()));
        Ok(())
    }
}

impl PaxSparse {
    pub fn is_used(&self) -> bool {
        self.major.is_some() || self.real_size.is_some()
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" => self.name = name(value).ok()?,
            b"size" | b"realsize" => self.real_size = Some(decimal(value)?),
            b"major" => self.major = Some(decimal(value)?),
            b"offset" => {
                let offset = decimal(value)?;
                self.segments.push(Segment { offset, length: 0 });
            }
            b"numbytes" => self.segments.last_mut()?.length = decimal(value)?,
            b"map" => {
                let mut numbers = value.split(|&byte| byte == b',').map(decimal);
                self.segments.clear();
                while let Some(offset) = numbers.next() {
                    let (offset, length) = (offset?, numbers.next()??);
                    self.segments.push(Segment { offset, length });
                }
            }
            _ => {}
        }
        (self.segments.len() <= MAX_SEGMENTS).then_some(())
    }
}

fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    if length > bytes.len() || length < space + 3 || bytes[length - 1] != b'\n' {
        return None;
    }
    let pair = &bytes[space + 1..length - 1];
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    (equals > 0).then_some((&pair[..equals], &pair[equals + 1..], &bytes[length..]))
}

/// An empty value takes the record back.
fn name(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if until_nul(value).len() != value.len() {
        return Err("a name with a NUL byte");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn optional(value: &[u8], error: &'static str) -> Result<Option<u64>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value).map(Some).ok_or(error)
}

pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Seconds with a fraction; digits beyond nanoseconds are dropped.
fn timestamp(value: &[u8]) -> Option<Timespec> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let dot = value.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = value.split_at(dot.unwrap_or(value.len()));
    let fraction = fraction.strip_prefix(b".").unwrap_or(fraction);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let nanoseconds = (0..9).fold(0i64, |value, place| {
        value * 10 + i64::from(fraction.get(place).unwrap_or(&b'0') - b'0')
    });
    Some(match (negative, nanoseconds) {
        (false, tv_nsec) => Timespec {
            tv_sec: seconds,
            tv_nsec,
        },
        (true, 0) => Timespec {
            tv_sec: -seconds,
            tv_nsec: 0,
        },
        (true, nanoseconds) => Timespec {
            tv_sec: -seconds - 1,
            tv_nsec: 1_000_000_000 - nanoseconds,
        },
    })
}

/// GNU tar writes `%` and `=` in attribute names as `%25` and `%3D`, because `=` ends a key.
fn unescape(key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (byte, after),
        };
        name.push(byte);
        rest = after;
    }
    name
}

/// The key of the record for extended attribute `name`.
pub(crate) fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = XATTR.to_vec();
    for &byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            _ => key.push(byte),
        }
    }
    key
}

/// Appends a record; its length counts its own digits.
pub(crate) fn push_record(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + 1;
    while length != bare + length.to_string().len() {
        length = bare + length.to_string().len();
    }
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_bytes() {
        let value: Vec<u8> = (0..=255).collect();
        let mut body = Vec::new();
        push_record(&mut body, &xattr_key(b"user.a=b%3D"), &value);
        push_record(&mut body, b"path", "d/é\n=x".as_bytes());
        let pax = Pax::parse(&body).unwrap();
        assert_eq!(pax.xattrs, [(b"user.a=b%3D".to_vec(), value)]);
        assert_eq!(pax.path.unwrap(), "d/é\n=x".as_bytes());
    }

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for size in [0, 1, 90, 91, 92, 93, 986, 987, 988, 989, 9985, 9986, 9987] {
            let mut body = Vec::new();
            push_record(&mut body, b"path", &vec![b'v'; size]);
            let digits = body.iter().position(|&byte| byte == b' ').unwrap();
            assert_eq!(decimal(&body[..digits]), Some(body.len() as u64));
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for body in [
            b"5 a=\n".as_slice(),
            b"x a=b\n",
            b"99 a=b\n",
            b"6 a=b ",
            b"6 =ab\n",
            b"6 abc\n",
            b"3 \n",
            b"0 a=b\n",
            b"99999999999999999999999 a=b\n",
            b"18 path=a\0b\nxxxxx\n",
            b"13 path=a\0bc\n",
            b"11 size=-1\n",
            b"12 mtime=1x\n",
            b"21 SCHILY.xattr.=abc\n",
        ] {
            let parsed = Pax::parse(body);
            let shown = String::from_utf8_lossy(body);
            assert_eq!(parsed.is_err(), body != b"5 a=\n", "{shown}");
        }
    }

    #[test]
    fn times_before_the_epoch_count_up_to_it() {
        let time = |text: &str| {
            let time = timestamp(text.as_bytes()).unwrap();
            (time.tv_sec, time.tv_nsec)
        };
        assert_eq!(time("1.5"), (1, 500_000_000));
        assert_eq!(time("12"), (12, 0));
        assert_eq!(time("1.0000000019"), (1, 1));
        assert_eq!(time("-1.25"), (-2, 750_000_000));
        assert_eq!(time("-3"), (-3, 0));
        assert!(timestamp(b".5").is_none());
        assert!(timestamp(b"1.-5").is_none());
    }
}
