//! Seccomp filters: `linux.seccomp` of the OCI runtime-spec, compiled to classic BPF as libseccomp and runc do.

mod bpf;
mod rules;
mod syscalls;

use crate::contract::Seccomp;
use crate::failure::{Failure, Result};
use crate::sys;
pub use bpf::Instruction;
use rules::{Arch, Decisions};

/// The kernel takes no longer program.
const MAX_INSTRUCTIONS: usize = 4096;

/// AUDIT_ARCH_X86_64 and AUDIT_ARCH_I386.
const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_I386: u32 = 0x4000_0003;
/// What x32 sets in the number of a call.
const X32_BIT: u32 = 0x4000_0000;

const FLAGS: [(&str, u32); 3] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 1),
    ("SECCOMP_FILTER_FLAG_LOG", 2),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
];
/// What runc sets when the profile names no flags.
const DEFAULT_FLAGS: u32 = 4;

/// A filter ready to be loaded.
pub struct Filter {
    program: Vec<Instruction>,
    flags: u32,
}

impl Filter {
    pub fn compile(seccomp: &Seccomp) -> Result<Self> {
        let program = program(seccomp)?;
        if program.len() > MAX_INSTRUCTIONS {
            return Err(Failure::invalid(format!(
                "seccomp: the rules need {} instructions, the kernel takes {MAX_INSTRUCTIONS}",
                program.len()
            )));
        }
        let mut flags = if seccomp.flags.is_empty() { DEFAULT_FLAGS } else { 0 };
        for name in &seccomp.flags {
            let known = FLAGS.iter().find(|(known, _)| known == name);
            flags |= known
                .ok_or_else(|| Failure::invalid(format!("seccomp flag {name:?} not known or not supported")))?
                .1;
        }
        Ok(Self { program, flags })
    }

    /// From here on the calling process lives with it. Needs CAP_SYS_ADMIN or no_new_privs.
    pub fn load(&self) -> std::io::Result<()> {
        sys::load_seccomp_filter(&self.program, self.flags)
    }
}

fn program(seccomp: &Seccomp) -> Result<Vec<Instruction>> {
    let wanted = architectures(&seccomp.architectures)?;
    let section = |arch| Decisions::of(seccomp, arch).map(|decisions| bpf::section(&decisions));
    let native = section(Arch::X86_64)?;
    let x32 = if wanted.x32 {
        section(Arch::X32)?
    } else {
        vec![bpf::ret(rules::KILL_THREAD)]
    };
    let mut x86_64 = vec![bpf::load(bpf::NUMBER)];
    x86_64.extend(bpf::branch(X32_BIT, native, x32));
    let i386 = wanted.x86.then(|| section(Arch::X86)).transpose()?.map(|section| {
        let mut whole = vec![bpf::load(bpf::NUMBER)];
        whole.extend(section);
        whole
    });
    let unknown = vec![bpf::ret(rules::KILL_THREAD)];
    let others = match i386 {
        Some(i386) => bpf::when_equal(AUDIT_I386, i386, unknown),
        None => unknown,
    };
    let mut program = vec![bpf::load(bpf::ARCHITECTURE)];
    program.extend(bpf::when_equal(AUDIT_X86_64, x86_64, others));
    Ok(program)
}

struct Wanted {
    x86: bool,
    x32: bool,
}

/// libseccomp's names. Those of other processors are fine: nothing of theirs runs here.
fn architectures(names: &[String]) -> Result<Wanted> {
    const OTHERS: [&str; 17] = [
        "ARM",
        "AARCH64",
        "MIPS",
        "MIPS64",
        "MIPS64N32",
        "MIPSEL",
        "MIPSEL64",
        "MIPSEL64N32",
        "PPC",
        "PPC64",
        "PPC64LE",
        "S390",
        "S390X",
        "PARISC",
        "PARISC64",
        "RISCV64",
        "LOONGARCH64",
    ];
    let mut wanted = Wanted { x86: false, x32: false };
    for name in names {
        match name.strip_prefix("SCMP_ARCH_") {
            Some("X86_64" | "NATIVE") => {}
            Some("X86") => wanted.x86 = true,
            Some("X32") => wanted.x32 = true,
            Some(other) if OTHERS.contains(&other) => {}
            _ => {
                return Err(Failure::invalid(format!(
                    "string {name} is not a valid arch for seccomp"
                )));
            }
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests;
