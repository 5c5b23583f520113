//! Which devices a container may open. It may make any node, as Docker allows, but the agent's port, the serial
//! console and the disks behind its root stay closed to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::contract::{Device, DeviceRule, DeviceRules};
use crate::failure::{Doing, Failure, Result};
use crate::sys;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    block: bool,
    major: u32,
    /// `None`: every minor number.
    minor: Option<u32>,
}

/// A cgroup device program in the kernel. Copies share it.
#[derive(Clone)]
pub struct LoadedFilter {
    program: Arc<OwnedFd>,
}

impl LoadedFilter {
    /// Allows `devices` beside the usual ones.
    pub fn load(devices: &[Device]) -> Result<Self> {
        Self::load_program(&program(devices))
    }

    /// Allows what the rules do beside the usual devices.
    pub fn load_rules(rules: &DeviceRules) -> Result<Self> {
        Self::load_program(&rules_program(rules)?)
    }

    fn load_program(program: &[u64]) -> Result<Self> {
        let program = sys::load_device_filter(program).doing(|| "loading a device filter".into())?;
        Ok(Self {
            program: Arc::new(program),
        })
    }

    pub fn attach(&self, cgroup: BorrowedFd<'_>) -> Result<()> {
        sys::attach_device_filter(cgroup, self.program.as_fd()).doing(|| "attaching the device filter".into())
    }
}

/// Whether every device is among those that all containers have.
pub fn are_usual(devices: &[Device]) -> bool {
    devices.iter().all(|device| {
        let number = |(major, minor): &(u32, Option<u32>)| {
            *major == device.major && minor.is_none_or(|minor| minor == device.minor)
        };
        device.r#type == "p" || device.r#type == "c" && ALWAYS.iter().any(number)
    })
}

/// null, zero, full, random, urandom, tty, ptmx, pts/*, net/tun.
const ALWAYS: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
    (10, Some(200)),
];

/// More than any sensible request has; the kernel takes longer programs than this makes.
const MAX_RULES: usize = 1024;

fn program(devices: &[Device]) -> Vec<u64> {
    let requested = devices.iter().filter(|device| device.r#type != "p").map(|device| Rule {
        block: device.r#type == "b",
        major: device.major,
        minor: Some(device.minor),
    });
    let mut program = usual_program();
    for rule in requested {
        push_rule(&mut program, rule);
    }
    program.extend([mov(R0, 0), EXIT]);
    program
}

fn usual_program() -> Vec<u64> {
    let mut program = prologue();
    for &(major, minor) in &ALWAYS {
        let block = false;
        push_rule(&mut program, Rule { block, major, minor });
    }
    program
}

/// The last rule that speaks of a kind of access decides about it. So the rules are gone through from the end: what one
/// of them allows is no longer asked for, and what one of them denies while it is asked for is denied.
fn rules_program(DeviceRules { rules }: &DeviceRules) -> Result<Vec<u64>> {
    if rules.len() > MAX_RULES {
        return Err(Failure::invalid(format!("more than {MAX_RULES} device rules")));
    }
    let mut program = usual_program();
    for rule in rules.iter().rev() {
        push_device_rule(&mut program, rule)?;
    }
    program.extend([mov(R0, 0), EXIT]);
    Ok(program)
}

fn push_device_rule(program: &mut Vec<u64>, rule: &DeviceRule) -> Result<()> {
    let kind = match rule.r#type.as_str() {
        "" | "a" => None,
        "b" => Some(TYPE_BLOCK),
        "c" => Some(TYPE_CHARACTER),
        other => return Err(Failure::invalid(format!("no type of device: {other:?}"))),
    };
    let access = access_bits(&rule.access)?;
    let tests = [(TYPE, kind), (MAJOR, rule.major), (MINOR, rule.minor)];
    let tests = tests
        .into_iter()
        .filter_map(|(register, value)| value.map(|value| (register, value)));
    let tests = tests.collect::<Vec<_>>();
    // Each of the two bodies below.
    const BODY: usize = 4;
    for (index, (register, value)) in tests.iter().enumerate() {
        let rest = tests.len() - index - 1 + BODY;
        program.push(skip_unless(*register, *value, rest as u64));
    }
    program.extend(if rule.allow {
        [
            instruction(0x57, ACCESS, 0, 0, !access), // ACCESS &= !access
            skip_unless(ACCESS, 0, 2),
            mov(R0, 1),
            EXIT,
        ]
    } else {
        [
            instruction(0x46, ACCESS, 0, 1, access), // if ACCESS & access, over the next
            instruction(0x05, 0, 0, 2, 0),           // over the rest
            mov(R0, 0),
            EXIT,
        ]
    });
    Ok(())
}

fn access_bits(access: &str) -> Result<u32> {
    if access.is_empty() {
        return Ok(ACCESS_MKNOD | ACCESS_READ | ACCESS_WRITE);
    }
    access.bytes().try_fold(0, |bits, byte| match byte {
        b'm' => Ok(bits | ACCESS_MKNOD),
        b'r' => Ok(bits | ACCESS_READ),
        b'w' => Ok(bits | ACCESS_WRITE),
        _ => Err(Failure::invalid(format!("no kind of access to a device: {access:?}"))),
    })
}

// Registers: the context, then what is read out of it.
const R0: u64 = 0;
const CONTEXT: u64 = 1;
const TYPE: u64 = 2;
const ACCESS: u64 = 3;
const MAJOR: u64 = 4;
const MINOR: u64 = 5;

const TYPE_BLOCK: u32 = 1;
const TYPE_CHARACTER: u32 = 2;
const ACCESS_MKNOD: u32 = 1;
const ACCESS_READ: u32 = 2;
const ACCESS_WRITE: u32 = 4;

const EXIT: u64 = 0x95;

/// Splits `struct bpf_cgroup_dev_ctx` (access << 16 | type, major, minor) and lets a bare mknod pass.
fn prologue() -> Vec<u64> {
    vec![
        load_word(TYPE, 0),
        instruction(0xbf, ACCESS, TYPE, 0, 0), // ACCESS = TYPE
        instruction(0x77, ACCESS, 0, 0, 16),   // ACCESS >>= 16
        instruction(0x57, TYPE, 0, 0, 0xffff), // TYPE &= 0xffff
        load_word(MAJOR, 4),
        load_word(MINOR, 8),
        skip_unless(ACCESS, ACCESS_MKNOD, 2),
        mov(R0, 1),
        EXIT,
    ]
}

fn push_rule(program: &mut Vec<u64>, Rule { block, major, minor }: Rule) {
    let mut tests = vec![(TYPE, if block { TYPE_BLOCK } else { TYPE_CHARACTER }), (MAJOR, major)];
    tests.extend(minor.map(|minor| (MINOR, minor)));
    let count = tests.len();
    for (index, (register, value)) in tests.into_iter().enumerate() {
        program.push(skip_unless(register, value, (count - index - 1 + 2) as u64));
    }
    program.extend([mov(R0, 1), EXIT]);
}

fn load_word(register: u64, offset: u64) -> u64 {
    instruction(0x61, register, CONTEXT, offset, 0)
}

fn mov(register: u64, value: u32) -> u64 {
    instruction(0xb7, register, 0, 0, value)
}

/// Jumps over `count` instructions when the register holds another value (32-bit comparison).
fn skip_unless(register: u64, value: u32, count: u64) -> u64 {
    instruction(0x56, register, 0, count, value)
}

fn instruction(code: u64, destination: u64, source: u64, offset: u64, immediate: u32) -> u64 {
    code | destination << 8 | source << 12 | offset << 16 | u64::from(immediate) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Just enough of an eBPF interpreter for the instructions above.
    fn allows(program: &[u64], access: u32, kind: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 6];
        let mut at = 0;
        loop {
            let word = program[at];
            let (code, offset, immediate) = (word & 0xff, (word >> 16 & 0xffff) as usize, word >> 32);
            let (destination, source) = ((word >> 8 & 0xf) as usize, (word >> 12 & 0xf) as usize);
            at += 1;
            match code {
                0x61 => registers[destination] = u64::from(context[offset / 4]),
                0xbf => registers[destination] = registers[source],
                0x77 => registers[destination] >>= immediate,
                0x57 => registers[destination] &= immediate as u32 as i32 as i64 as u64,
                0x46 if registers[destination] as u32 & immediate as u32 != 0 => at += offset,
                0x46 => {}
                0x05 => at += offset,
                0xb7 => registers[destination] = immediate,
                0x56 if registers[destination] as u32 != immediate as u32 => at += offset,
                0x56 => {}
                0x95 => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    const READ: u32 = 2;
    const READ_WRITE: u32 = 6;

    #[test]
    fn opens_the_usual_devices_and_nothing_of_the_guest() {
        let rules = program(&[]);
        assert!(allows(&rules, READ_WRITE, TYPE_CHARACTER, 1, 3));
        assert!(allows(&rules, READ_WRITE, TYPE_CHARACTER, 136, 7));
        assert!(!allows(&rules, READ, TYPE_CHARACTER, 1, 1), "mem");
        assert!(!allows(&rules, READ, TYPE_CHARACTER, 5, 1), "console");
        assert!(
            !allows(&rules, READ, TYPE_BLOCK, 1, 3),
            "a block device with the numbers of null"
        );
        assert!(!allows(&rules, READ, TYPE_BLOCK, 254, 0), "vda");
    }

    #[test]
    fn lets_any_node_be_made_but_not_opened_while_being_made() {
        let rules = program(&[]);
        assert!(allows(&rules, ACCESS_MKNOD, TYPE_BLOCK, 8, 0));
        assert!(!allows(&rules, ACCESS_MKNOD | READ, TYPE_BLOCK, 8, 0));
    }

    #[test]
    fn knows_what_needs_no_filter_of_its_own() {
        let device = |kind: &str, major, minor| Device {
            r#type: kind.into(),
            major,
            minor,
            ..Device::default()
        };
        assert!(are_usual(&[device("c", 1, 3), device("p", 9, 9), device("c", 136, 4)]));
        assert!(!are_usual(&[device("b", 1, 3)]));
        assert!(!are_usual(&[device("c", 1, 3), device("c", 10, 229)]));
    }

    fn rule(allow: bool, kind: &str, major: Option<u32>, minor: Option<u32>, access: &str) -> DeviceRule {
        DeviceRule {
            allow,
            r#type: kind.into(),
            major,
            minor,
            access: access.into(),
        }
    }

    #[test]
    fn lets_the_last_rule_decide_about_each_kind_of_access() {
        let rules = rules_program(&DeviceRules {
            rules: vec![
                rule(false, "", None, None, "rwm"),
                rule(true, "c", Some(10), None, "rw"),
                rule(false, "c", Some(10), Some(229), "w"),
                rule(true, "b", Some(8), None, ""),
            ],
        })
        .unwrap();
        let write = 4;
        assert!(
            allows(&rules, READ_WRITE, TYPE_CHARACTER, 1, 3),
            "null whatever the rules say"
        );
        assert!(allows(&rules, READ_WRITE, TYPE_CHARACTER, 10, 1));
        assert!(
            !allows(&rules, READ_WRITE | ACCESS_MKNOD, TYPE_CHARACTER, 10, 1),
            "not m"
        );
        assert!(allows(&rules, READ, TYPE_CHARACTER, 10, 229));
        assert!(!allows(&rules, write, TYPE_CHARACTER, 10, 229));
        assert!(!allows(&rules, READ_WRITE, TYPE_CHARACTER, 10, 229));
        assert!(allows(&rules, READ_WRITE, TYPE_BLOCK, 8, 5));
        assert!(!allows(&rules, READ, TYPE_BLOCK, 10, 1));
        assert!(!allows(&rules, READ, TYPE_CHARACTER, 8, 5));
        assert!(allows(&rules, ACCESS_MKNOD, TYPE_BLOCK, 99, 99), "any node may be made");
    }

    #[test]
    fn opens_everything_for_a_privileged_container() {
        let everything = DeviceRules {
            rules: vec![rule(true, "a", None, None, "rwm")],
        };
        let rules = rules_program(&everything).unwrap();
        assert!(allows(&rules, READ_WRITE | ACCESS_MKNOD, TYPE_BLOCK, 254, 0));
        assert!(allows(&rules, READ, TYPE_CHARACTER, 5, 1));
        assert!(
            rules_program(&DeviceRules {
                rules: vec![rule(true, "x", None, None, "r")]
            })
            .is_err()
        );
        assert!(
            rules_program(&DeviceRules {
                rules: vec![rule(true, "c", None, None, "rx")]
            })
            .is_err()
        );
    }

    #[test]
    fn opens_what_was_requested() {
        let fuse = Device {
            path: "/dev/fuse".into(),
            r#type: "c".into(),
            major: 10,
            minor: 229,
            ..Device::default()
        };
        let disk = Device {
            path: "/dev/x".into(),
            r#type: "b".into(),
            major: 8,
            minor: 16,
            ..Device::default()
        };
        let rules = program(&[fuse, disk]);
        assert!(allows(&rules, READ_WRITE, TYPE_CHARACTER, 10, 229));
        assert!(allows(&rules, READ_WRITE, TYPE_BLOCK, 8, 16));
        assert!(!allows(&rules, READ_WRITE, TYPE_BLOCK, 8, 0));
    }
}
