//! Maps of sparse files: which ranges of a file have bytes in the archive.

use crate::header::{BLOCK, Block, number};
use crate::pax::decimal;

/// More would take more than 4 MiB of memory for one entry.
pub(crate) const MAX_SEGMENTS: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// The bytes in the archive fill the segments exactly, in order, inside the file.
pub(crate) fn check(segments: &[Segment], stored: u64, real_size: u64) -> Result<(), &'static str> {
    if i64::try_from(real_size).is_err() {
        return Err("a sparse file of an impossible size");
    }
    let mut end = 0;
    let mut sum = 0u64;
    for segment in segments {
        let after = segment.offset.checked_add(segment.length);
        if segment.offset < end || after.is_none_or(|after| after > real_size) {
            return Err("a sparse map that does not fit its file");
        }
        end = segment.offset + segment.length;
        sum += segment.length;
    }
    if sum != stored {
        return Err("a sparse map that does not fit its data");
    }
    Ok(())
}

/// Appends the segments of an old GNU header (from byte 386) or of an extension block; tells whether an
/// extension block follows.
pub(crate) fn read_old(segments: &mut Vec<Segment>, block: &Block, first: usize) -> Option<bool> {
    let count = (BLOCK - first) / 24;
    let count = if first == 0 { count } else { 4 };
    for field in block[first..].chunks_exact(24).take(count) {
        if field[0] == 0 {
            break;
        }
        let offset = u64::try_from(number(&field[..12])?).ok()?;
        let length = u64::try_from(number(&field[12..])?).ok()?;
        segments.push(Segment { offset, length });
    }
    let more = block[first + count * 24] != 0;
    (segments.len() <= MAX_SEGMENTS).then_some(more)
}

/// The map in front of the data of a GNU 1.0 sparse file: decimal lines, the number of segments first.
#[derive(Default)]
pub(crate) struct MapLines {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl MapLines {
    /// Takes one block of the map; the segments once it is complete.
    pub fn push(&mut self, block: &[u8]) -> Option<Option<Vec<Segment>>> {
        for &byte in block {
            if byte != b'\n' {
                self.digits.push(byte);
                if self.digits.len() > 20 {
                    return None;
                }
                continue;
            }
            self.numbers.push(decimal(&self.digits)?);
            self.digits.clear();
            let count = usize::try_from(self.numbers[0]).ok()?;
            if count > MAX_SEGMENTS {
                return None;
            }
            if self.numbers.len() == 1 + 2 * count {
                let pairs = self.numbers[1..].chunks_exact(2);
                let segments = pairs.map(|pair| Segment {
                    offset: pair[0],
                    length: pair[1],
                });
                return Some(Some(segments.collect()));
            }
        }
        Some(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_must_ascend_and_fit() {
        let map = |pairs: &[(u64, u64)]| -> Vec<Segment> {
            let segment = |&(offset, length)| Segment { offset, length };
            pairs.iter().map(segment).collect()
        };
        assert!(check(&map(&[(0, 10), (20, 5), (30, 0)]), 15, 30).is_ok());
        assert!(check(&map(&[(20, 5), (0, 10)]), 15, 30).is_err());
        assert!(check(&map(&[(0, 10), (5, 5)]), 15, 30).is_err());
        assert!(check(&map(&[(0, 10)]), 11, 30).is_err());
        assert!(check(&map(&[(0, 31)]), 31, 30).is_err());
        assert!(check(&map(&[(u64::MAX, 2)]), 2, 30).is_err());
        assert!(check(&map(&[(0, 1)]), 1, u64::MAX).is_err());
    }

    #[test]
    fn the_map_in_front_of_the_data_may_span_blocks() {
        let mut lines = MapLines::default();
        assert_eq!(lines.push(b"2\n0\n51"), Some(None));
        let segments = lines.push(b"2\n1024\n7\n\0\0\0").unwrap().unwrap();
        assert_eq!(segments[0].length, 512);
        assert_eq!((segments[1].offset, segments[1].length), (1024, 7));
        assert_eq!(MapLines::default().push(b"9999999999\n"), None);
        assert_eq!(MapLines::default().push(b"1\nx\n"), None);
        assert_eq!(MapLines::default().push(&[b'1'; 512]), None);
    }
}
