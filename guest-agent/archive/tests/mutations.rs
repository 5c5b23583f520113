//! Thousands of damaged archives: none may panic, hang or change anything outside its root.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Fields, Scratch, Tar, look, names, seal};
use hrun_archive::{HostRules, extract_untrusted};

/// xorshift64*: the same mutations in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let node = |name, kind| Fields {
        name,
        kind,
        device: (1, 3),
        mode: 0o2640,
        ..Fields::default()
    };
    let plain = Tar::new()
        .dir("./")
        .dir("a")
        .file("a/f", b"some bytes")
        .link("a/up", "../../outside")
        .link("l", "/outside")
        .hard_link("a/h", "a/f")
        .add(&node(b"a/c", b'3'), b"")
        .add(&node(b"a/b", b'4'), b"")
        .add(&node(b"a/p", b'6'), b"")
        .file("a/up/x", b"through a link")
        .end();
    let extended = Tar::new()
        .pax(&[
            (b"path", b"a/named/by/pax"),
            (b"size", b"5"),
            (b"uid", b"70000"),
            (b"mtime", b"-12.5"),
            (b"SCHILY.xattr.user.x", b"\0\xff"),
        ])
        .file("f", b"12345")
        .extension(b'L', b"a/named/by/gnu\0")
        .file("g", b"x")
        .extension(b'K', b"../target\0")
        .link("k", "t")
        .pax(&[
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.realsize", b"4096"),
            (b"GNU.sparse.name", b"a/sparse"),
        ])
        .file("s", &[b"1\n1024\n4\n".as_slice(), &[0; 503], b"data"].concat())
        .pax(&[(b"GNU.sparse.size", b"64"), (b"GNU.sparse.map", b"0,2,32,2")])
        .file("t", b"data")
        .end();
    let upper = Tar::new()
        .file("a/.wh.f", b"")
        .file("a/.wh..wh..opq", b"")
        .dir("l")
        .file("l/x", b"")
        .file("a", b"now a file")
        .end();
    vec![plain, extended, upper]
}

fn mutate(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.roll(4) {
        let blocks = bytes.len() / 512;
        if blocks == 0 {
            break;
        }
        let block = dice.roll(blocks) * 512;
        match dice.roll(7) {
            0 => {
                let at = block + dice.roll(512);
                bytes[at] ^= 1 << dice.roll(8);
            }
            // The fields that decide where an entry lands.
            1 => bytes[block + 156] = b"01234567LKxgSDMV\0"[dice.roll(17)],
            2 => {
                let parts: [&[u8]; 8] = [b"../", b"/", b"a/up/", b"l/", b".wh.", b".wh..wh..opq", b"\xff", b"./"];
                let part = parts[dice.roll(8)];
                let field = [0, 157, 345][dice.roll(3)];
                let at = block + field + dice.roll(8);
                bytes[at..at + part.len()].copy_from_slice(part);
            }
            3 => {
                let digit = b"01234567 \0\x80\xff"[dice.roll(12)];
                bytes[block + 100 + dice.roll(48)] = digit;
            }
            4 => bytes.truncate(dice.roll(bytes.len())),
            5 => {
                let copy = bytes[block..block + 512].to_vec();
                let to = dice.roll(blocks) * 512;
                bytes[to..to + 512].copy_from_slice(&copy);
            }
            _ => {
                bytes.drain(block..block + 512);
            }
        }
        // A checksum that holds lets the damage reach what lies behind it.
        if block + 512 <= bytes.len() && bytes[block + 257..block + 262] == *b"ustar" {
            seal(&mut bytes[block..block + 512]);
        }
    }
    bytes
}

#[test]
fn damaged_archives_never_panic_and_never_reach_outside() {
    const ROUNDS: usize = 4000;
    // `make fuzz` wants other damage every time, and more of it
    let seconds = std::env::var("HRUN_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let seed = match end {
        None => 0x6872_756e,
        Some(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1,
    };
    let scratch = Scratch::in_memory();
    scratch.directory("outside/dir");
    fs::write(scratch.path("outside/x"), b"untouched").unwrap();
    let outside = look(&scratch.path("outside"));
    let seeds = seeds();
    let mut dice = Dice(seed);
    let mut accepted = 0;
    let mut rounds = 0;
    while end.map_or(rounds < ROUNDS, |end| Instant::now() < end) {
        let round = rounds;
        rounds += 1;
        let root = scratch.path("root");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).unwrap();
        symlink(scratch.path("outside"), root.join("l")).unwrap();
        let archive = mutate(&seeds[dice.roll(seeds.len())], &mut dice);
        let done = match round % 4 {
            0 | 1 => {
                let lower = seeds[0].clone();
                scratch.unpack("root", &[lower, archive]).map(drop)
            }
            2 => scratch.extract("root", "/", &archive),
            _ => {
                let directory = File::open(&root).unwrap();
                let rules = HostRules {
                    name: b".",
                    owners: round % 8 == 3,
                };
                let length = archive.len() as u64;
                extract_untrusted(&mut archive.as_slice(), length, &directory, &rules).map(drop)
            }
        };
        accepted += usize::from(done.is_ok());
        assert_eq!(look(&scratch.path("outside")), outside, "round {round} of seed {seed}");
    }
    let mut beside = names(&scratch.path(""));
    beside.retain(|name| !name.contains('/'));
    assert_eq!(beside, ["outside", "root"]);
    // Neither all refused before anything happened nor all harmless.
    assert!(
        accepted > rounds / 20 && accepted < rounds * 19 / 20,
        "{accepted} of {rounds}"
    );
    if let Some(path) = std::env::var_os("HRUN_REPORT") {
        let line = format!("{{\"kind\":\"fuzz\",\"name\":\"agent: tar\",\"facts\":{{\"inputs\":{rounds}}}}}\n");
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the report");
    }
}
