//! What a profile decides about each system call of one architecture.

use std::collections::BTreeMap;

use super::syscalls::SYSCALLS;
use crate::contract::{Seccomp, SeccompArg, SeccompRule};
use crate::failure::{Failure, Result};

pub const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = libc::EPERM as u32;
const ENOSYS: u32 = libc::ENOSYS as u32;

/// `seccomp_data.args`
const MAX_ARGS: u32 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    X86,
    X32,
}

/// A test of one argument; all 64 bits of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub index: u32,
    pub mask: u64,
    pub test: Test,
    pub value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Always(u32),
    /// The first chain whose conditions all hold decides; if none does, the default.
    Chains(Vec<(Vec<Condition>, u32)>),
}

pub struct Decisions {
    pub by_number: BTreeMap<u32, Decision>,
    pub default: u32,
    /// Calls beyond this number are newer than the profile: ENOSYS lets programs fall back (as runc does it).
    pub newest: Option<u32>,
}

impl Decisions {
    pub fn of(seccomp: &Seccomp, arch: Arch) -> Result<Self> {
        let default = action(&seccomp.default_action, seccomp.default_errno_ret)?;
        let mut decisions = Self {
            by_number: BTreeMap::new(),
            default,
            newest: None,
        };
        let mut newest = None;
        for rule in &seccomp.syscalls {
            let action = action(&rule.action, rule.errno_ret)?;
            let conditions = rule.args.iter().map(condition).collect::<Result<Vec<_>>>()?;
            for name in &rule.names {
                for call in resolve(name, arch) {
                    newest = newest.max(Some(call.number));
                    if action != default {
                        decisions.add(call, rule, &conditions, action);
                    }
                }
            }
        }
        let permissive = matches!(default & 0xffff_0000, ALLOW | LOG | TRACE);
        if !permissive && default != ERRNO | ENOSYS {
            decisions.newest = newest;
        }
        Ok(decisions)
    }

    fn add(&mut self, call: Call, rule: &SeccompRule, conditions: &[Condition], action: u32) {
        let mut chains = alternatives(rule, conditions);
        if let Some(multiplexed) = call.multiplexed {
            for chain in &mut chains {
                // As libseccomp: the first argument is the number of the real call; the others stay as they are.
                chain.retain(|condition| condition.index != 0);
                chain.push(multiplexed);
            }
        }
        if chains.iter().any(Vec::is_empty) {
            // A rule for every call wins over those for some, and the first of them stays.
            match self.by_number.get(&call.number) {
                Some(Decision::Always(_)) => {}
                _ => drop(self.by_number.insert(call.number, Decision::Always(action))),
            }
            return;
        }
        let entry = self.by_number.entry(call.number);
        if let Decision::Chains(known) = entry.or_insert_with(|| Decision::Chains(Vec::new())) {
            known.extend(chains.into_iter().map(|chain| (chain, action)));
        }
    }
}

/// Conditions of one rule must all hold, unless two of them look at the same argument: then each is a rule of its own.
fn alternatives(rule: &SeccompRule, conditions: &[Condition]) -> Vec<Vec<Condition>> {
    let mut seen = [false; MAX_ARGS as usize];
    let twice = rule
        .args
        .iter()
        .any(|arg| std::mem::replace(&mut seen[arg.index as usize], true));
    if twice {
        conditions.iter().map(|condition| vec![*condition]).collect()
    } else {
        vec![conditions.to_vec()]
    }
}

struct Call {
    number: u32,
    /// Holds for the calls behind socketcall(2) and ipc(2) of i386.
    multiplexed: Option<Condition>,
}

/// All ways to make the call. None: the architecture or this kernel does not have it, which is no error.
fn resolve(name: &str, arch: Arch) -> Vec<Call> {
    let direct = number_of(name, arch).map(|number| Call {
        number,
        multiplexed: None,
    });
    let multiplexed = (arch == Arch::X86).then(|| multiplexed(name)).flatten();
    direct.into_iter().chain(multiplexed).collect()
}

fn number_of(name: &str, arch: Arch) -> Option<u32> {
    let at = SYSCALLS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    let number = u32::try_from(SYSCALLS[at].1[arch as usize]).ok()?;
    Some(if arch == Arch::X32 {
        number | super::X32_BIT
    } else {
        number
    })
}

fn multiplexed(name: &str) -> Option<Call> {
    const SOCKET: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    let socket = SOCKET.iter().position(|known| *known == name);
    let ipc = IPC.iter().find(|(known, _)| *known == name);
    let (through, which) = match (socket, ipc) {
        (Some(at), _) => ("socketcall", at as u64 + 1),
        (None, Some((_, which))) => ("ipc", *which),
        (None, None) => return None,
    };
    Some(Call {
        number: number_of(through, Arch::X86)?,
        multiplexed: Some(Condition {
            index: 0,
            mask: u64::MAX,
            test: Test::Equal,
            value: which,
        }),
    })
}

fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    // The kernel has 16 bits for it.
    let data = errno.unwrap_or(EPERM);
    if data > 0xffff {
        return Err(Failure::invalid(format!("seccomp: errnoRet {data} is too large")));
    }
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_ERRNO" => ERRNO | data,
        "SCMP_ACT_TRACE" => TRACE | data,
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_NOTIFY" => {
            let message = "seccomp: SCMP_ACT_NOTIFY needs a listener, and none can be outside of the microVM";
            return Err(Failure::new(crate::contract::FailureReason::Unsupported, message));
        }
        _ => {
            return Err(Failure::invalid(format!(
                "string {name} is not a valid action for seccomp"
            )));
        }
    })
}

fn condition(arg: &SeccompArg) -> Result<Condition> {
    if arg.index >= MAX_ARGS {
        return Err(Failure::invalid(format!(
            "seccomp: no call has an argument {}",
            arg.index
        )));
    }
    let plain = |test| Condition {
        index: arg.index,
        mask: u64::MAX,
        test,
        value: arg.value,
    };
    Ok(match arg.op.as_str() {
        "SCMP_CMP_EQ" => plain(Test::Equal),
        "SCMP_CMP_NE" => plain(Test::NotEqual),
        "SCMP_CMP_GT" => plain(Test::Greater),
        "SCMP_CMP_GE" => plain(Test::GreaterOrEqual),
        "SCMP_CMP_LT" => plain(Test::Less),
        "SCMP_CMP_LE" => plain(Test::LessOrEqual),
        "SCMP_CMP_MASKED_EQ" => Condition {
            mask: arg.value,
            value: arg.value_two & arg.value,
            ..plain(Test::Equal)
        },
        other => {
            return Err(Failure::invalid(format!(
                "string {other} is not a valid operator for seccomp"
            )));
        }
    })
}

/// ENOSYS as a filter returns it.
pub const UNKNOWN_CALL: u32 = ERRNO | ENOSYS;
