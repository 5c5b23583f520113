//! One 512-byte tar header: v7, ustar, GNU and star.
//!
//! ```text
//!   0 name 100   100 mode 8   108 uid 8   116 gid 8   124 size 12   136 mtime 12   148 checksum 8
//! 156 type 1     157 link 100 257 magic 8 265 uname   297 gname     329 devmajor 8 337 devminor 8
//! 345 prefix 155 (ustar)      386 four sparse segments, 482 more?, 483 real size 12 (GNU type 'S')
//! ```

use crate::name::join;

pub(crate) const BLOCK: usize = 512;

pub(crate) type Block = [u8; BLOCK];

pub(crate) struct Header<'a>(pub &'a Block);

impl Header<'_> {
    /// Old writers summed signed bytes; both sums are accepted, as by every tar.
    pub fn checksum_holds(&self) -> bool {
        let Some(stored) = number(&self.0[148..156]) else {
            return false;
        };
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (index, &byte) in self.0.iter().enumerate() {
            let byte = if (148..156).contains(&index) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte as i8);
        }
        stored == unsigned || stored == signed
    }

    pub fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.0[..100]);
        // GNU headers keep times and sparse maps where ustar has the prefix; star has times at its end.
        let prefix: &[u8] = if &self.0[257..263] != b"ustar\0" {
            &[]
        } else if &self.0[508..512] == b"tar\0" {
            &self.0[345..476]
        } else {
            &self.0[345..500]
        };
        join(until_nul(prefix), name)
    }

    pub fn link(&self) -> Vec<u8> {
        until_nul(&self.0[157..257]).to_vec()
    }

    pub fn kind(&self) -> u8 {
        self.0[156]
    }

    pub fn mode(&self) -> Option<i64> {
        number(&self.0[100..108])
    }

    pub fn uid(&self) -> Option<i64> {
        number(&self.0[108..116])
    }

    pub fn gid(&self) -> Option<i64> {
        number(&self.0[116..124])
    }

    pub fn size(&self) -> Option<u64> {
        u64::try_from(number(&self.0[124..136])?).ok()
    }

    pub fn mtime(&self) -> Option<i64> {
        number(&self.0[136..148])
    }

    pub fn device(&self) -> Option<(u32, u32)> {
        let part = |range: std::ops::Range<usize>| u32::try_from(number(&self.0[range])?).ok();
        Some((part(329..337)?, part(337..345)?))
    }
}

/// A number in octal digits or, with its top bit set, in big-endian two's complement ("base 256").
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 == 0 {
        return octal(field);
    }
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let mut value = i128::from(first.cast_signed());
    for &byte in &field[1..] {
        value = value << 8 | i128::from(byte);
    }
    i64::try_from(value).ok()
}

fn octal(field: &[u8]) -> Option<i64> {
    let digits = until_nul(field.trim_ascii_start());
    let mut value = 0i64;
    for &digit in digits.trim_ascii() {
        if !(b'0'..=b'7').contains(&digit) {
            return None;
        }
        value = value.checked_mul(8)? + i64::from(digit - b'0');
    }
    Some(value)
}

pub(crate) fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0);
    &field[..end.unwrap_or(field.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_encodings() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777"), Some(0o77777777));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(8 * 1024 * 1024 * 1024));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), Some(-1));
    }

    #[test]
    fn other_numbers_are_refused() {
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-000644\0"), None);
        assert_eq!(number(b"\x80\0\0\x01\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
