//! Reads a tar entry by entry. Everything a header claims is bounded or checked before it is used.

use std::io::{ErrorKind, Read};

use rustix::fs::Timespec;

use crate::error::{ArchiveError, ArchiveFailure};
use crate::header::{BLOCK, Block, Header, until_nul};
use crate::name::show;
use crate::pax::{self, Pax};
use crate::sparse::{self, MapLines, Segment};
use crate::xattr::Xattr;

/// Large enough that a disk read costs little beside what is done with its bytes.
const BUFFER: usize = 1024 * 1024;
/// A name, a link target and attributes take three; some writers add labels or comments.
const MAX_EXTENSIONS: usize = 16;
/// Direct reads of a block device want aligned memory.
const ALIGNMENT: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

#[derive(Debug)]
pub(crate) struct Entry {
    /// As stored: not cleaned.
    pub name: Vec<u8>,
    pub kind: Kind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timespec,
    /// Of the file once extracted; 0 for everything else.
    pub size: u64,
    pub link: Vec<u8>,
    pub device: (u32, u32),
    pub xattrs: Vec<Xattr>,
    /// Where the bytes of a sparse file belong.
    pub segments: Option<Vec<Segment>>,
    /// First byte of the entry in the archive.
    pub offset: u64,
}

pub(crate) struct TarReader<'a> {
    source: &'a mut dyn Read,
    /// "layer sha256:…", for messages.
    label: String,
    max_entries: u64,
    /// Of the archive, and how much of it has been fetched.
    length: u64,
    fetched: u64,
    buffer: Vec<u8>,
    /// Aligned start of the usable part of `buffer`; what is fetched and not consumed.
    base: usize,
    start: usize,
    end: usize,
    /// What is left of the current entry.
    body: u64,
    padding: u64,
    entries: u64,
}

impl<'a> TarReader<'a> {
    pub fn new(source: &'a mut dyn Read, length: u64, label: String, max_entries: u64) -> Self {
        let buffer = vec![0; BUFFER + ALIGNMENT];
        let base = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self {
            source,
            label,
            max_entries,
            length,
            fetched: 0,
            buffer,
            base,
            start: base,
            end: base,
            body: 0,
            padding: 0,
            entries: 0,
        }
    }

    /// Entries seen so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// "layer sha256:…".
    pub fn label(&self) -> &str {
        &self.label
    }

    /// "layer sha256:…: entry "usr/bin" at byte 512".
    pub fn place(&self, entry: &Entry) -> String {
        let Entry { name, offset, .. } = entry;
        format!("{}: entry {} at byte {offset}", self.label, show(name))
    }

    /// The next entry, or nothing at the end of the archive. What is left of the last one is skipped.
    pub fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        self.read_entry().map_err(|error| error.within(&self.label))
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        self.skip_rest()?;
        let offset = self.position();
        let mut pax = Pax::default();
        let (mut long_name, mut long_link) = (None, None);
        for _ in 0..MAX_EXTENSIONS {
            let at = self.position();
            let Some(block) = self.header(at)? else {
                let alone = at == offset;
                return if alone { Ok(None) } else { Err(self.cut_off(at)) };
            };
            let header = Header(&block);
            match header.kind() {
                b'x' => {
                    let body = self.extension(&header, at)?;
                    pax = Pax::parse(&body).map_err(|text| self.corrupt(at, text))?;
                }
                b'L' => long_name = Some(until_nul(&self.extension(&header, at)?).to_vec()),
                b'K' => long_link = Some(until_nul(&self.extension(&header, at)?).to_vec()),
                // Global headers carry comments in practice and Docker ignores them; volume labels likewise.
                b'g' | b'V' => {
                    self.expect_body(&header, at)?;
                    self.skip_rest()?;
                }
                _ => {
                    self.count_entry()?;
                    let mut entry = self.entry(&block, pax, offset)?;
                    entry.name = long_name.unwrap_or(entry.name);
                    entry.link = long_link.unwrap_or(entry.link);
                    return Ok(Some(entry));
                }
            }
        }
        Err(self.corrupt(offset, "too many extended headers in a row"))
    }

    fn count_entry(&mut self) -> Result<(), ArchiveError> {
        self.entries += 1;
        if self.entries <= self.max_entries {
            return Ok(());
        }
        let text = format!("more than {} entries", self.max_entries);
        Err(ArchiveError::new(ArchiveFailure::TooManyEntries, text))
    }

    /// The next bytes of the entry's data, at most `limit` and at least one; `limit` may not exceed what is left.
    pub fn data(&mut self, limit: u64) -> Result<&[u8], ArchiveError> {
        let taken = self.take(limit.min(self.body))?;
        if taken.is_empty() {
            return Err(self.cut_off(self.position()));
        }
        self.body -= taken.len() as u64;
        Ok(&self.buffer[taken])
    }

    fn position(&self) -> u64 {
        self.fetched - (self.end - self.start) as u64
    }

    /// A header block whose checksum holds; nothing at the end: two zero blocks or the end of the bytes.
    fn header(&mut self, at: u64) -> Result<Option<Block>, ArchiveError> {
        let Some(block) = self.block(at)? else {
            return Ok(None);
        };
        if block.iter().all(|&byte| byte == 0) {
            return match self.block(at)? {
                Some(second) if second.iter().any(|&byte| byte != 0) => {
                    Err(self.corrupt(at, "a block of zeros inside the archive"))
                }
                _ => Ok(None),
            };
        }
        if !Header(&block).checksum_holds() {
            return Err(self.corrupt(at, "a header with a wrong checksum"));
        }
        Ok(Some(block))
    }

    fn block(&mut self, at: u64) -> Result<Option<Block>, ArchiveError> {
        // The buffer is filled in whole blocks, so a block never lies on both sides of its end.
        let taken = self.take(BLOCK as u64)?;
        match Block::try_from(&self.buffer[taken.clone()]) {
            Ok(block) => Ok(Some(block)),
            Err(_) if taken.is_empty() => Ok(None),
            Err(_) => Err(self.cut_off(at)),
        }
    }

    fn entry(&mut self, block: &Block, pax: Pax, offset: u64) -> Result<Entry, ArchiveError> {
        let header = Header(block);
        let name = pax.sparse.name.clone().or(pax.path);
        let name = name.unwrap_or_else(|| header.name());
        let bad = |what: &str| {
            let text = format!("entry {} at byte {offset}: {what}", show(&name));
            ArchiveError::new(ArchiveFailure::CorruptArchive, text)
        };
        let kind = match header.kind() {
            b'0' | b'7' | 0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | b'7' | b'S' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(bad(&format!("an unknown type {}", show(&[other])))),
        };
        let owner = |pax: Option<u64>, header: Option<i64>| {
            let id = pax.or(header.and_then(|id| u64::try_from(id).ok()))?;
            // 2^32 - 1 means "unchanged" to chown(2).
            u32::try_from(id).ok().filter(|&id| id != u32::MAX)
        };
        let seconds = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
        let stored = pax.size.or(header.size()).ok_or_else(|| bad("a bad size"))?;
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let mut entry = Entry {
            kind,
            mode: header.mode().ok_or_else(|| bad("a bad mode"))? as u32 & 0o7777,
            uid: owner(pax.uid, header.uid()).ok_or_else(|| bad("a bad owner"))?,
            gid: owner(pax.gid, header.gid()).ok_or_else(|| bad("a bad group"))?,
            mtime: pax
                .mtime
                .or(header.mtime().map(seconds))
                .ok_or_else(|| bad("a bad modification time"))?,
            size: 0,
            link: pax.link.unwrap_or_else(|| header.link()),
            device: match is_device {
                true => header.device().ok_or_else(|| bad("a bad device number"))?,
                false => (0, 0),
            },
            xattrs: pax.xattrs,
            segments: None,
            offset,
            name: name.clone(),
        };
        // As in Docker and GNU tar, a size on a link or a device is not followed by data.
        if kind == Kind::File || header.kind() == b'D' {
            if stored > self.length - self.position() {
                return Err(bad("the archive ends inside its data"));
            }
            self.body = stored;
            self.padding = stored.wrapping_neg() % BLOCK as u64;
        }
        if kind == Kind::File {
            entry.size = stored;
            self.read_sparse_map(&mut entry, block, pax.sparse)?;
        }
        Ok(entry)
    }

    fn read_sparse_map(&mut self, entry: &mut Entry, block: &Block, pax: pax::PaxSparse) -> Result<(), ArchiveError> {
        const BAD: &str = "a bad sparse map";
        let is_pax_sparse = pax.is_used();
        let mut segments = pax.segments;
        let real_size;
        if Header(block).kind() == b'S' {
            real_size = crate::header::number(&block[483..495]).and_then(|n| u64::try_from(n).ok());
            segments.clear();
            let mut more = sparse::read_old(&mut segments, block, 386);
            // The extension blocks lie between header and data and are not counted in the size.
            while more == Some(true) {
                let at = self.position();
                let extension = self.block(at)?.ok_or_else(|| self.cut_off(at))?;
                more = sparse::read_old(&mut segments, &extension, 0);
            }
            more.ok_or_else(|| self.corrupt(entry.offset, BAD))?;
        } else if is_pax_sparse {
            real_size = pax.real_size;
            if pax.major == Some(1) {
                segments = self.read_map_lines(entry)?;
            }
        } else {
            return Ok(());
        }
        entry.size = real_size.ok_or_else(|| self.corrupt(entry.offset, BAD))?;
        sparse::check(&segments, self.body, entry.size).map_err(|text| self.corrupt(entry.offset, text))?;
        entry.segments = Some(segments);
        Ok(())
    }

    fn read_map_lines(&mut self, entry: &Entry) -> Result<Vec<Segment>, ArchiveError> {
        let mut lines = MapLines::default();
        loop {
            if self.body == 0 {
                return Err(self.corrupt(entry.offset, "a sparse map without an end"));
            }
            let whole = self.body.min(BLOCK as u64);
            let block = self.data(whole)?;
            match lines.push(block) {
                Some(Some(segments)) => return Ok(segments),
                Some(None) => {}
                None => return Err(self.corrupt(entry.offset, "a bad sparse map")),
            }
        }
    }

    /// The whole body of an extended header.
    fn extension(&mut self, header: &Header, at: u64) -> Result<Vec<u8>, ArchiveError> {
        self.expect_body(header, at)?;
        if self.body > pax::MAX_BYTES {
            return Err(self.corrupt(at, "an extended header of more than 1 MiB"));
        }
        let mut body = Vec::with_capacity(self.body as usize);
        while self.body > 0 {
            body.extend_from_slice(self.data(u64::MAX)?);
        }
        self.skip_rest()?;
        Ok(body)
    }

    fn expect_body(&mut self, header: &Header, at: u64) -> Result<(), ArchiveError> {
        let size = header.size();
        self.body = size.ok_or_else(|| self.corrupt(at, "a header with a bad size"))?;
        self.padding = self.body.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<(), ArchiveError> {
        while self.body > 0 {
            self.data(u64::MAX)?;
        }
        while self.padding > 0 {
            let taken = self.take(self.padding)?;
            if taken.is_empty() {
                // The padding of the last entry may be missing; it says nothing.
                self.padding = 0;
            }
            self.padding -= taken.len() as u64;
        }
        Ok(())
    }

    /// The next fetched bytes, at most `limit`, as a range of the buffer; empty only at the end of the archive.
    fn take(&mut self, limit: u64) -> Result<std::ops::Range<usize>, ArchiveError> {
        if self.start == self.end {
            self.fill()?;
        }
        let length = limit.min((self.end - self.start) as u64) as usize;
        self.start += length;
        Ok(self.start - length..self.start)
    }

    fn fill(&mut self) -> Result<(), ArchiveError> {
        (self.start, self.end) = (self.base, self.base);
        let wanted = (self.length - self.fetched).min(BUFFER as u64) as usize;
        while self.end - self.base < wanted {
            let room = &mut self.buffer[self.end..self.base + wanted];
            match self.source.read(room) {
                Ok(0) => break,
                Ok(count) => {
                    let count = count.min(room.len());
                    self.end += count;
                    self.fetched += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let doing = format!("reading byte {}", self.fetched);
                    return Err(ArchiveError::system(doing, error).because(ArchiveFailure::Io));
                }
            }
        }
        Ok(())
    }

    fn cut_off(&self, at: u64) -> ArchiveError {
        self.corrupt(at, "the archive is cut off")
    }

    fn corrupt(&self, at: u64, text: &str) -> ArchiveError {
        let text = format!("{text} at byte {at}");
        ArchiveError::new(ArchiveFailure::CorruptArchive, text)
    }
}
