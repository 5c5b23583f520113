//! Layers that are cut off, damaged, too many or too large for the disk. Needs root, as the agent has it.

mod common;

use std::fs;

use common::{Fields, Scratch, Tar, assert_fails, names};
use hrun_archive::{ArchiveFailure, LayerExtent, UnpackLimits, unpack_layers};

#[test]
fn a_size_may_take_more_than_eleven_octal_digits() {
    let scratch = Scratch::new();
    // The data is a hole in the disk that holds the layer.
    let size = 9u64 << 30;
    let mut field = [0u8; 12];
    field[0] = 0x80;
    field[4..].copy_from_slice(&size.to_be_bytes());
    let fields = Fields {
        name: b"big",
        size: Some(&field),
        ..Fields::default()
    };
    let head = Tar::new().add(&fields, b"").0;
    let (disk, mut extents) = Scratch::disk(&[head]);
    disk.set_len(512 + size - 1).unwrap();
    extents[0].length = 512 + size - 1;
    let root = scratch.directory("root");
    let limits = UnpackLimits {
        max_entries_per_layer: 1,
    };
    let unpacked = unpack_layers(&disk, &root, &extents, &limits, &mut |_| {});
    assert_fails(unpacked, ArchiveFailure::CorruptArchive, "ends inside its data");
}

#[test]
fn archives_may_end_in_several_ways() {
    let whole = Tar::new().file("f", b"data").end();
    let empty: Vec<u8> = Vec::new();
    let no_end = whole[..1024].to_vec();
    let no_padding = whole[..516].to_vec();
    let one_zero_block = whole[..1536].to_vec();
    let more_after = [whole.clone(), Tar::new().file("never", b"").end()].concat();
    for layer in [&whole, &no_end, &no_padding, &one_zero_block, &more_after] {
        let scratch = Scratch::new();
        scratch.unpack("root", &[layer.clone(), empty.clone()]).unwrap();
        assert_eq!(names(&scratch.path("root")), ["f"]);
        assert_eq!(fs::read(scratch.path("root/f")).unwrap(), b"data");
    }
}

#[test]
fn damage_is_told_with_layer_entry_and_place() {
    let good = Tar::new().file("first", b"data").file("second", &[7; 2000]).end();
    let cut = |length: usize| good[..length].to_vec();
    let mut flipped = good.clone();
    flipped[1024 + 3] ^= 1;
    let zeros_inside = [vec![0; 512], good.clone()].concat();
    let cases = [
        (
            cut(514),
            "layer sha256:1: entry \"first\" at byte 0: the archive ends inside its data",
        ),
        (cut(1024 + 100), "the archive is cut off at byte 1024"),
        (
            cut(1536 + 700),
            "entry \"second\" at byte 1024: the archive ends inside its data",
        ),
        (flipped, "layer sha256:1: a header with a wrong checksum at byte 1024"),
        (zeros_inside, "a block of zeros inside the archive"),
        (Tar::new().pax(&[(b"path", b"x")]).0, "the archive is cut off"),
        (Tar::new().pax(&[(b"size", b"-1")]).file("f", b"").end(), "bad size"),
        (
            Tar::new().extension(b'x', b"nonsense").file("f", b"").end(),
            "malformed",
        ),
        (Tar::new().extension(b'?', b"").end(), "unknown type \"?\""),
    ];
    for (bad, text) in cases {
        let scratch = Scratch::new();
        let below = Tar::new().file("below", b"").end();
        let unpacked = scratch.unpack("root", &[below, bad]);
        assert_fails(unpacked, ArchiveFailure::CorruptArchive, text);
    }
}

#[test]
fn a_source_shorter_than_its_extent_is_damage() {
    let scratch = Scratch::new();
    let layer = Tar::new().file("f", &[1; 4096]).end();
    let (disk, extents) = Scratch::disk(&[layer]);
    disk.set_len(2048).unwrap();
    let root = scratch.directory("root");
    let limits = UnpackLimits {
        max_entries_per_layer: 10,
    };
    let unpacked = unpack_layers(&disk, &root, &extents, &limits, &mut |_| {});
    assert_fails(
        unpacked,
        ArchiveFailure::CorruptArchive,
        "layer sha256:0: entry \"f\" at byte 0: the archive is cut off at byte 2048",
    );
}

#[test]
fn the_number_of_entries_is_limited() {
    let scratch = Scratch::new();
    let tar = (0..11).fold(Tar::new(), |tar, number| tar.file(&number.to_string(), b""));
    let (disk, extents) = Scratch::disk(&[tar.end()]);
    let root = scratch.directory("root");
    let limits = UnpackLimits {
        max_entries_per_layer: 10,
    };
    let unpacked = unpack_layers(&disk, &root, &extents, &limits, &mut |_| {});
    assert_fails(
        unpacked,
        ArchiveFailure::TooManyEntries,
        "layer sha256:0: more than 10 entries",
    );
    assert_eq!(names(&scratch.path("root")).len(), 10);
}

#[test]
fn an_extent_off_the_grid_is_a_bad_request() {
    let scratch = Scratch::new();
    let (disk, _) = Scratch::disk(&[Tar::new().end()]);
    let root = scratch.directory("root");
    let limits = UnpackLimits {
        max_entries_per_layer: 10,
    };
    for (offset, length) in [(100, 512), (512, u64::MAX)] {
        let digest = "sha256:x".to_string();
        let extent = LayerExtent { offset, length, digest };
        let unpacked = unpack_layers(&disk, &root, &[extent], &limits, &mut |_| {});
        assert_fails(unpacked, ArchiveFailure::InvalidRequest, "layer sha256:x");
    }
}

#[test]
fn a_full_disk_is_told_with_the_bytes() {
    let scratch = Scratch::new();
    let small = scratch.path("small");
    fs::create_dir(&small).unwrap();
    let mut mount = std::process::Command::new("mount");
    common::run(
        mount
            .args(["-t", "tmpfs", "-o", "size=64k,mode=755", "none"])
            .arg(&small),
    );
    let layer = Tar::new().file("big", &[1; 100_000]).end();
    let unpacked = scratch.unpack("small", &[layer]);
    common::run(std::process::Command::new("umount").arg(&small));
    assert_fails(
        unpacked,
        ArchiveFailure::DiskFull,
        "entry \"big\" at byte 0: writing bytes ",
    );
}
