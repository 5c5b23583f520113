use super::*;
use crate::contract::{FailureReason, SeccompArg, SeccompRule};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;
const READ: u32 = 0;
const GETCWD: u32 = 79;
const SOCKET: u32 = 41;

/// Just enough of the kernel's interpreter. Panics where the kernel would refuse the program.
fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        0 => number,
        4 => arch,
        16..64 => {
            let word = args[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) {
                word as u32
            } else {
                (word >> 32) as u32
            }
        }
        _ => panic!("a load of {offset}"),
    };
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let Instruction {
            code,
            jump_true,
            jump_false,
            value,
        } = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { jump_true } else { jump_false });
        match code {
            0x20 => accumulator = load(value),
            0x54 => accumulator &= value,
            0x05 => at += value as usize,
            0x15 => jump(accumulator == value),
            0x25 => jump(accumulator > value),
            0x35 => jump(accumulator >= value),
            0x06 => return value,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

fn rule(names: &[&str], action: &str, args: Vec<SeccompArg>) -> SeccompRule {
    SeccompRule {
        names: names.iter().map(ToString::to_string).collect(),
        action: action.into(),
        errno_ret: None,
        args,
    }
}

fn arg(index: u32, op: &str, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg {
        index,
        value,
        value_two,
        op: op.into(),
    }
}

fn profile(default: &str, syscalls: Vec<SeccompRule>) -> Seccomp {
    Seccomp {
        default_action: default.into(),
        architectures: vec!["SCMP_ARCH_X86".into(), "SCMP_ARCH_X32".into()],
        syscalls,
        ..Seccomp::default()
    }
}

fn native(seccomp: &Seccomp, number: u32, args: [u64; 6]) -> u32 {
    run(&program(seccomp).unwrap(), AUDIT_X86_64, number, args)
}

#[test]
fn knows_its_table_of_calls() {
    assert!(syscalls::SYSCALLS.is_sorted_by_key(|(name, _)| name));
}

#[test]
fn denies_what_is_not_allowed() {
    let seccomp = profile(
        "SCMP_ACT_ERRNO",
        vec![rule(&["read", "mseal", "no_such_call"], "SCMP_ACT_ALLOW", vec![])],
    );
    assert_eq!(native(&seccomp, READ, [0; 6]), ALLOW);
    assert_eq!(native(&seccomp, GETCWD, [0; 6]), EPERM);
    assert_eq!(native(&seccomp, 462, [0; 6]), ALLOW);
    assert_eq!(
        native(&seccomp, 463, [0; 6]),
        ENOSYS,
        "newer than anything in the profile"
    );
    let program = program(&seccomp).unwrap();
    assert_eq!(run(&program, AUDIT_X86_64, X32_BIT, [0; 6]), ALLOW);
    assert_eq!(run(&program, AUDIT_X86_64, X32_BIT | GETCWD, [0; 6]), EPERM);
    assert_eq!(run(&program, AUDIT_I386, 3, [0; 6]), ALLOW, "read of i386");
    assert_eq!(run(&program, AUDIT_I386, 0, [0; 6]), EPERM, "restart_syscall of i386");
    assert_eq!(run(&program, 0xc000_00b7, 3, [0; 6]), 0, "another processor");
}

#[test]
fn kills_architectures_that_are_not_named() {
    let seccomp = Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        ..Seccomp::default()
    };
    let program = program(&seccomp).unwrap();
    assert_eq!(run(&program, AUDIT_X86_64, 9999, [0; 6]), ALLOW);
    assert_eq!(run(&program, AUDIT_X86_64, X32_BIT, [0; 6]), 0);
    assert_eq!(run(&program, AUDIT_I386, 3, [0; 6]), 0);
}

#[test]
fn compares_all_bits_of_arguments() {
    let big = 0x1_0000_0005_u64;
    let cases: [(&str, &[(u64, bool)]); 7] = [
        (
            "SCMP_CMP_EQ",
            &[(big, true), (5, false), (big + 1, false), (0x2_0000_0005, false)],
        ),
        (
            "SCMP_CMP_NE",
            &[(big, false), (5, true), (big + 1, true), (0x2_0000_0005, true)],
        ),
        (
            "SCMP_CMP_GT",
            &[
                (big, false),
                (big + 1, true),
                (big - 1, false),
                (0x2_0000_0000, true),
                (9, false),
            ],
        ),
        (
            "SCMP_CMP_GE",
            &[
                (big, true),
                (big + 1, true),
                (big - 1, false),
                (0x2_0000_0000, true),
                (9, false),
            ],
        ),
        (
            "SCMP_CMP_LT",
            &[
                (big, false),
                (big + 1, false),
                (big - 1, true),
                (0x2_0000_0000, false),
                (9, true),
            ],
        ),
        (
            "SCMP_CMP_LE",
            &[
                (big, true),
                (big + 1, false),
                (big - 1, true),
                (0x2_0000_0000, false),
                (9, true),
            ],
        ),
        (
            "SCMP_CMP_MASKED_EQ",
            &[(2, true), (6, true), (3, false), (0x1_0000_0002, false)],
        ),
    ];
    for (op, values) in cases {
        let test = if op == "SCMP_CMP_MASKED_EQ" {
            arg(2, op, 0x1_0000_0003, 2)
        } else {
            arg(2, op, big, 0)
        };
        let seccomp = profile("SCMP_ACT_ALLOW", vec![rule(&["socket"], "SCMP_ACT_ERRNO", vec![test])]);
        for (value, matches) in values {
            let expected = if *matches { EPERM } else { ALLOW };
            assert_eq!(
                native(&seccomp, SOCKET, [0, 0, *value, 0, 0, 0]),
                expected,
                "{op} {value:#x}"
            );
        }
    }
}

#[test]
fn wants_all_conditions_of_a_rule_and_any_of_those_on_one_argument() {
    let both = vec![arg(0, "SCMP_CMP_EQ", 1, 0), arg(5, "SCMP_CMP_EQ", 2, 0)];
    let seccomp = profile("SCMP_ACT_ALLOW", vec![rule(&["socket"], "SCMP_ACT_ERRNO", both)]);
    assert_eq!(native(&seccomp, SOCKET, [1, 0, 0, 0, 0, 2]), EPERM);
    assert_eq!(native(&seccomp, SOCKET, [1, 0, 0, 0, 0, 3]), ALLOW);
    assert_eq!(native(&seccomp, SOCKET, [0, 0, 0, 0, 0, 2]), ALLOW);
    let either = vec![arg(0, "SCMP_CMP_EQ", 1, 0), arg(0, "SCMP_CMP_EQ", 2, 0)];
    let seccomp = profile("SCMP_ACT_ALLOW", vec![rule(&["socket"], "SCMP_ACT_ERRNO", either)]);
    for (value, expected) in [(1, EPERM), (2, EPERM), (3, ALLOW)] {
        assert_eq!(native(&seccomp, SOCKET, [value, 0, 0, 0, 0, 0]), expected);
    }
}

#[test]
fn lets_a_rule_for_every_call_win() {
    let some = |value| rule(&["socket"], "SCMP_ACT_TRAP", vec![arg(0, "SCMP_CMP_EQ", value, 0)]);
    let every = rule(&["socket"], "SCMP_ACT_ALLOW", vec![]);
    for syscalls in [vec![some(1), every.clone()], vec![every.clone(), some(1)]] {
        let seccomp = profile("SCMP_ACT_ERRNO", syscalls);
        assert_eq!(native(&seccomp, SOCKET, [1, 0, 0, 0, 0, 0]), ALLOW);
    }
    // A rule with the action of the default says nothing.
    let seccomp = profile("SCMP_ACT_ALLOW", vec![every, some(1)]);
    assert_eq!(native(&seccomp, SOCKET, [1, 0, 0, 0, 0, 0]), 0x0003_0000);
}

#[test]
fn sees_through_the_multiplexers_of_i386() {
    let seccomp = profile(
        "SCMP_ACT_ERRNO",
        vec![rule(&["socket", "shmget"], "SCMP_ACT_ALLOW", vec![])],
    );
    let program = program(&seccomp).unwrap();
    let i386 = |number, first| run(&program, AUDIT_I386, number, [first, 0, 0, 0, 0, 0]);
    assert_eq!(i386(102, 1), ALLOW, "socketcall(SYS_SOCKET)");
    assert_eq!(i386(102, 2), EPERM, "socketcall(SYS_BIND)");
    assert_eq!(i386(359, 0), ALLOW, "socket");
    assert_eq!(i386(117, 23), ALLOW, "ipc(SHMGET)");
    assert_eq!(i386(117, 22), EPERM, "ipc(SHMDT)");
}

#[test]
fn returns_the_errno_it_was_given() {
    let mut seccomp = profile("SCMP_ACT_ERRNO", vec![rule(&["getcwd"], "SCMP_ACT_ERRNO", vec![])]);
    seccomp.default_errno_ret = Some(38);
    seccomp.syscalls[0].errno_ret = Some(5);
    assert_eq!(native(&seccomp, GETCWD, [0; 6]), 0x0005_0005);
    assert_eq!(native(&seccomp, 10_000, [0; 6]), 0x0005_0026);
}

#[test]
fn agrees_with_a_plain_reading_of_a_large_profile() {
    // Every third call allowed, every fifth by its argument: more code than a conditional jump spans.
    let names = |step: usize| {
        syscalls::SYSCALLS
            .iter()
            .step_by(step)
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
    };
    let seccomp = profile(
        "SCMP_ACT_KILL_PROCESS",
        vec![
            rule(&names(3), "SCMP_ACT_ALLOW", vec![]),
            rule(&names(5), "SCMP_ACT_LOG", vec![arg(1, "SCMP_CMP_GE", 1 << 40, 0)]),
        ],
    );
    let program = program(&seccomp).unwrap();
    assert!(
        program.len() > 600 && program.len() < MAX_INSTRUCTIONS,
        "{}",
        program.len()
    );
    let mentioned = syscalls::SYSCALLS
        .iter()
        .enumerate()
        .filter(|(at, _)| at % 3 == 0 || at % 5 == 0);
    let newest = mentioned
        .filter_map(|(_, (_, numbers))| u32::try_from(numbers[0]).ok())
        .max()
        .unwrap();
    for (at, (name, numbers)) in syscalls::SYSCALLS.iter().enumerate() {
        let Ok(number) = u32::try_from(numbers[0]) else {
            continue;
        };
        let expected = |big: bool| match (at % 3, at % 5) {
            _ if number > newest => ENOSYS,
            (0, _) => ALLOW,
            (_, 0) if big => 0x7ffc_0000,
            _ => 0x8000_0000,
        };
        for (value, big) in [(0, false), (1 << 40, true), ((1 << 40) - 1, false)] {
            let answer = run(&program, AUDIT_X86_64, number, [0, value, 0, 0, 0, 0]);
            assert_eq!(answer, expected(big), "{name} {value:#x}");
        }
    }
}

#[test]
fn refuses_what_it_does_not_know() {
    let reason = |seccomp: &Seccomp| Filter::compile(seccomp).err().map(|failure| failure.reason);
    let invalid = Some(FailureReason::InvalidRequest);
    assert_eq!(reason(&profile("SCMP_ACT_PERMIT", vec![])), invalid);
    assert_eq!(
        reason(&profile("SCMP_ACT_NOTIFY", vec![])),
        Some(FailureReason::Unsupported)
    );
    let with = |argument| {
        profile(
            "SCMP_ACT_ALLOW",
            vec![rule(&["read"], "SCMP_ACT_ERRNO", vec![argument])],
        )
    };
    assert_eq!(reason(&with(arg(6, "SCMP_CMP_EQ", 0, 0))), invalid);
    assert_eq!(reason(&with(arg(0, "SCMP_CMP_IS", 0, 0))), invalid);
    let mut seccomp = profile("SCMP_ACT_ALLOW", vec![]);
    seccomp.architectures.push("SCMP_ARCH_PDP11".into());
    assert_eq!(reason(&seccomp), invalid);
    seccomp.architectures = vec!["SCMP_ARCH_S390X".into()];
    assert_eq!(reason(&seccomp), None);
    seccomp.flags = vec!["SECCOMP_FILTER_FLAG_NEW_LISTENER".into()];
    assert_eq!(reason(&seccomp), invalid);
}
