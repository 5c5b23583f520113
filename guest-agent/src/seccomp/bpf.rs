//! Classic BPF over `struct seccomp_data`: number, architecture, instruction pointer, six arguments of 64 bits.

use super::rules::{Condition, Decision, Decisions, Test, UNKNOWN_CALL};

/// `struct sock_filter`
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub value: u32,
}

pub const NUMBER: u32 = 0;
pub const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

type Code = Vec<Instruction>;

pub fn load(offset: u32) -> Instruction {
    plain(LOAD, offset)
}

pub fn ret(action: u32) -> Instruction {
    plain(RETURN, action)
}

/// `low` for numbers below `value`, `high` for it and those above. Both must end by returning.
pub fn branch(value: u32, low: Code, high: Code) -> Code {
    test(JUMP_GREATER_OR_EQUAL, value, high, low)
}

pub fn when_equal(value: u32, then: Code, otherwise: Code) -> Code {
    test(JUMP_EQUAL, value, then, otherwise)
}

/// Decides about the number that is loaded: a binary search over ranges of numbers with the same answer.
pub fn section(decisions: &Decisions) -> Code {
    let default = Decision::Always(decisions.default);
    let newer = Decision::Always(UNKNOWN_CALL);
    // Where the answer changes, and to what.
    let mut ranges: Vec<(u32, &Decision)> = vec![(0, &default)];
    let mut change = |at: u32, to| match ranges.last_mut() {
        Some(last) if last.0 == at => last.1 = to,
        _ => ranges.push((at, to)),
    };
    for (number, decision) in &decisions.by_number {
        change(*number, decision);
        change(number + 1, &default);
    }
    if let Some(newest) = decisions.newest {
        change(newest + 1, &newer);
    }
    ranges.dedup_by(|next, before| next.1 == before.1);
    search(&ranges, decisions.default)
}

fn search(ranges: &[(u32, &Decision)], default: u32) -> Code {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    match (low, high) {
        ([], [(_, Decision::Always(action))]) => vec![ret(*action)],
        ([], [(_, Decision::Chains(chains))]) => {
            let mut code = chains
                .iter()
                .flat_map(|(conditions, action)| chain(conditions, *action))
                .collect::<Code>();
            code.push(ret(default));
            code
        }
        _ => branch(high[0].0, search(low, default), search(high, default)),
    }
}

/// Returns `action` if all conditions hold, goes on behind itself otherwise.
fn chain(conditions: &[Condition], action: u32) -> Code {
    // From the end, so that each condition knows how far it is to the way out.
    let mut code = vec![ret(action)];
    for condition in conditions.iter().rev() {
        let mut whole = test_argument(condition, code.len());
        whole.extend(code);
        code = whole;
    }
    code
}

/// Falls through if the condition holds and jumps over `rest` more instructions otherwise. A chain is at most six
/// conditions of six instructions and a return, so its jumps fit.
fn test_argument(condition: &Condition, rest: usize) -> Code {
    let Condition {
        index,
        mask,
        test,
        value,
    } = *condition;
    let halves = |word: u64| ((word >> 32) as u32, word as u32);
    let ((mask_high, mask_low), (high, low)) = (halves(mask), halves(value));
    let masked_load = |offset: u32, mask: u32| {
        let mut code = vec![load(ARGUMENTS + 8 * index + offset)];
        if mask != u32::MAX {
            code.push(plain(AND, mask));
        }
        code
    };
    let (load_high, load_low) = (masked_load(4, mask_high), masked_load(0, mask_low));
    // The end of this test, where the condition holds, and the way out behind it.
    let tail = load_low.len() + 1;
    let out = rest as u8;
    let mut code = load_high;
    // How the low halves compare when the high ones are equal, and which of the two ways that means.
    let (low_code, holds_if_true) = match test {
        Test::Equal => (JUMP_EQUAL, true),
        Test::NotEqual => (JUMP_EQUAL, false),
        Test::Greater => (JUMP_GREATER, true),
        Test::GreaterOrEqual => (JUMP_GREATER_OR_EQUAL, true),
        Test::Less => (JUMP_GREATER_OR_EQUAL, false),
        Test::LessOrEqual => (JUMP_GREATER, false),
    };
    let (here, away) = (tail as u8, tail as u8 + out);
    match test {
        Test::Equal => code.push(jump(JUMP_EQUAL, high, 0, away)),
        Test::NotEqual => code.push(jump(JUMP_EQUAL, high, 0, here)),
        Test::Greater | Test::GreaterOrEqual => {
            code.push(jump(JUMP_GREATER, high, here + 1, 0));
            code.push(jump(JUMP_EQUAL, high, 0, away));
        }
        Test::Less | Test::LessOrEqual => {
            code.push(jump(JUMP_GREATER, high, away + 1, 0));
            code.push(jump(JUMP_EQUAL, high, 0, here));
        }
    }
    code.extend(load_low);
    code.push(if holds_if_true {
        jump(low_code, low, 0, out)
    } else {
        jump(low_code, low, out, 0)
    });
    code
}

/// Conditional jumps reach 255 instructions; beyond, an unconditional one helps.
fn test(code: u16, value: u32, then: Code, otherwise: Code) -> Code {
    let mut whole = match u8::try_from(otherwise.len()) {
        Ok(distance) => vec![jump(code, value, distance, 0)],
        Err(_) => vec![jump(code, value, 0, 1), plain(JUMP, otherwise.len() as u32)],
    };
    whole.extend(otherwise);
    whole.extend(then);
    whole
}

fn jump(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        value,
    }
}

fn plain(code: u16, value: u32) -> Instruction {
    jump(code, value, 0, 0)
}
