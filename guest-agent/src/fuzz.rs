//! Input of others, thrown at the parsers: none may panic, and what they accept must hold. `make fuzz` gives each a
//! minute (`BOLERO_RANDOM_TEST_TIME_MS`), `cargo test` a moment.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use bolero::check;
use bytes::BytesMut;
use prost::Message;

use crate::container::scheduling::Scheduling;
use crate::container::{hooks::Hooks, id_maps, mount_options, plan, user};
use crate::contract::*;
use crate::link::{Decoder, Kind, MAX_FRAME, MAX_PAYLOAD, encode};
use crate::network::plan::Plan;
use crate::seccomp::Filter;

/// Counts what a test has tried, and at its end notes it in the file that HRUN_REPORT names (`build/report.ts`).
struct Tally {
    name: &'static str,
    inputs: AtomicU64,
}

impl Tally {
    fn of(name: &'static str) -> Self {
        let inputs = AtomicU64::new(0);
        Self { name, inputs }
    }

    fn count(&self) {
        self.inputs.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let Some(path) = std::env::var_os("HRUN_REPORT") else {
            return;
        };
        let inputs = self.inputs.load(Ordering::Relaxed);
        let line = format!(
            "{{\"kind\":\"fuzz\",\"name\":\"agent: {}\",\"facts\":{{\"inputs\":{inputs}}}}}\n",
            self.name
        );
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the report");
    }
}

/// Text of pieces that mean something to one parser or another.
fn text(bytes: &[u8]) -> String {
    const PIECES: [&str; 48] = [
        "root",
        "x",
        ":",
        ",",
        "/",
        "\n",
        "0",
        "1",
        "9",
        "-1",
        "=",
        "user",
        "wheel",
        "..",
        "mode=",
        "size=",
        "4294967295",
        "2147483647",
        "2147483648",
        "18446744073709551616",
        "ro",
        "rw",
        "nosuid",
        "bind",
        "rbind",
        "rprivate",
        "shared",
        "idmap",
        "tmpcopyup",
        "uid=",
        "02:42:ac:11:00:02",
        "10.0.0.1",
        "/24",
        "/33",
        "fd00::1",
        "/64",
        "eth0",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_ALLOW",
        "SCMP_CMP_EQ",
        "SCMP_CMP_MASKED_EQ",
        "read",
        "openat",
        "SCMP_ARCH_X86_64",
        "SCHED_BATCH",
        "\0",
        "é",
        "RLIMIT_NOFILE",
    ];
    bytes
        .iter()
        .map(|&byte| PIECES[usize::from(byte) % PIECES.len()])
        .collect()
}

fn texts(parts: &[Vec<u8>]) -> Vec<String> {
    parts.iter().map(|part| text(part)).collect()
}

#[test]
fn frames_are_found_after_whatever_came_before() {
    let tally = Tally::of("link");
    check!()
        .with_type::<(Vec<u8>, u64, Vec<u8>)>()
        .for_each(|(noise, epoch, payload)| {
            tally.count();
            let mut wire = BytesMut::from(noise.as_slice());
            wire.extend_from_slice(&vec![0; MAX_FRAME]);
            let payload = &[payload.as_slice(), b"."].concat()[..payload.len().min(MAX_PAYLOAD - 1) + 1];
            let epoch = epoch | 1;
            encode(&mut wire, epoch, Kind::Data, payload);
            let mut decoder = Decoder::default();
            let (mut rest, mut last) = (&wire[..], None);
            while !rest.is_empty() {
                let taken = decoder.push(rest);
                rest = &rest[taken..];
                let mut found = 0;
                while let Some(frame) = decoder.next_frame() {
                    assert!(frame.payload.len() <= MAX_PAYLOAD);
                    last = Some(frame);
                    found += 1;
                }
                assert!(taken > 0 || found > 0, "the decoder is stuck");
            }
            let last = last.expect("the frame at the end");
            assert_eq!((last.epoch, last.kind, &last.payload[..]), (epoch, Kind::Data, payload));
        });
}

#[test]
fn users_are_somebody_or_refused() {
    let tally = Tally::of("user");
    check!()
        .with_type::<(Vec<u8>, Vec<u8>, Vec<u8>)>()
        .for_each(|(passwd, group, wanted)| {
            tally.count();
            let (passwd, wanted) = (text(passwd), text(wanted));
            let Ok(found) = user::look_up(&passwd, &text(group), &wanted) else {
                return;
            };
            let listed = |id: u32| passwd.contains(&id.to_string());
            assert!(found.uid <= i32::MAX as u32 || listed(found.uid), "uid {}", found.uid);
            assert!(!found.home.is_empty());
        });
}

#[test]
fn options_of_mounts() {
    let tally = Tally::of("mount options");
    check!()
        .with_type::<(Vec<Vec<u8>>, Vec<u8>)>()
        .for_each(|(options, propagation)| {
            tally.count();
            let _ = mount_options::MountOptions::parse(&texts(options));
            let _ = mount_options::Propagation::parse(&text(propagation));
        });
}

/// What bytes say, read from the first to the last; then zeros.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    fn number(&mut self) -> u32 {
        let bytes = [self.byte(), self.byte(), self.byte(), self.byte()];
        // small ones mean something more often
        u32::from_le_bytes(bytes) >> (self.byte() % 32)
    }

    fn text(&mut self) -> String {
        let pieces = self.byte() % 6;
        text(&(0..pieces).map(|_| self.byte()).collect::<Vec<_>>())
    }

    fn several<T>(&mut self, most: u8, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % (most + 1)).map(|_| one(self)).collect()
    }
}

#[test]
fn seccomp_rules_become_a_program_that_the_kernel_takes_or_none() {
    let tally = Tally::of("seccomp");
    check!().for_each(|bytes: &[u8]| {
        tally.count();
        let mut source = Source(bytes);
        let argument = |source: &mut Source<'_>| SeccompArg {
            index: source.number() % 8,
            value: source.number().into(),
            value_two: source.number().into(),
            op: source.text(),
        };
        let rule = |source: &mut Source<'_>| SeccompRule {
            names: source.several(4, Source::text),
            action: source.text(),
            errno_ret: Some(source.number()),
            args: source.several(7, argument),
        };
        let _ = Filter::compile(&Seccomp {
            default_action: source.text(),
            default_errno_ret: Some(source.number()),
            architectures: source.several(3, Source::text),
            flags: source.several(2, Source::text),
            syscalls: source.several(20, rule),
        });
    });
}

#[test]
fn networks_have_plans_or_are_refused() {
    let tally = Tally::of("network");
    check!().for_each(|bytes: &[u8]| {
        tally.count();
        let mut source = Source(bytes);
        let route = |source: &mut Source<'_>| NetworkRoute {
            destination: source.text(),
            gateway: source.text(),
            source: source.text(),
            ..NetworkRoute::default()
        };
        let interface = |source: &mut Source<'_>| NetworkInterface {
            slot: source.number() % 16,
            name: source.text(),
            mac: source.text(),
            mtu: source.number(),
            addresses: source.several(4, Source::text),
            routes: source.several(4, route),
            neighbours: Vec::new(),
        };
        let interfaces = source.several(10, interface);
        let _ = Plan::check(&ConfigureNetworkRequest { interfaces });
    });
}

#[test]
fn requests_of_any_bytes() {
    let tally = Tally::of("requests");
    check!().for_each(|bytes: &[u8]| {
        tally.count();
        if let Ok(request) = CreateContainerRequest::decode(bytes) {
            for mount in &request.mounts {
                let _ = mount_options::MountOptions::parse(&mount.options);
            }
            let _ = id_maps::IdMaps::new(&request.uid_mappings, &request.gid_mappings);
            let _ = id_maps::check_clocks(&request.time_offsets);
            let _ = Hooks::check(&request.start_container_hooks, &request.hook_state);
            let _ = request.seccomp.as_ref().map(Filter::compile);
        }
        if let Ok(process) = Process::decode(bytes) {
            let _ = plan::strings(&process);
            let _ = Scheduling::plan(&process);
        }
        let _ = AttachRequest::decode(bytes);
        let _ = UpdateContainerRequest::decode(bytes);
    });
}

#[test]
fn id_maps_and_clocks() {
    let tally = Tally::of("id maps");
    check!()
        .with_type::<(Vec<(u32, u32, u32)>, Vec<(u32, u32, u32)>, Vec<(Vec<u8>, i64, u32)>)>()
        .for_each(|(uids, gids, clocks)| {
            tally.count();
            let mapping = |&(container_id, host_id, size): &(u32, u32, u32)| IdMapping {
                container_id,
                host_id,
                size,
            };
            let (uids, gids): (Vec<_>, Vec<_>) =
                (uids.iter().map(mapping).collect(), gids.iter().map(mapping).collect());
            if let Ok(maps) = id_maps::IdMaps::new(&uids, &gids) {
                for map in &uids {
                    let _ = (
                        maps.uid(map.container_id),
                        maps.gid(map.container_id.wrapping_add(map.size)),
                    );
                }
            }
            let offset = |(clock, seconds, nanoseconds): &(Vec<u8>, i64, u32)| TimeOffset {
                clock: text(clock),
                seconds: *seconds,
                nanoseconds: *nanoseconds,
            };
            let _ = id_maps::check_clocks(&clocks.iter().map(offset).collect::<Vec<_>>());
        });
}
