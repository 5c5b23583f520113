//! Finding the program of a process, with Docker's words when there is none.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use crate::contract::FailureReason;
use crate::failure::{Failure, Result, describe};

const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds `name` as the process itself would: its root, working directory and user must be in place already.
pub fn find_program(name: &CString, env: &[CString]) -> Result<CString> {
    let bytes = name.as_bytes();
    let shown = name.to_string_lossy();
    if bytes.contains(&b'/') {
        return match executable(Path::new(OsStr::from_bytes(bytes))) {
            Ok(()) => Ok(name.clone()),
            Err(Errno::NOENT) => Err(not_found(format!(
                "exec: \"{shown}\": stat {shown}: no such file or directory"
            ))),
            Err(error) => Err(Failure::new(
                FailureReason::CommandNotExecutable,
                format!("exec: \"{shown}\": {}", describe(&error.into())),
            )),
        };
    }
    search_path(env.iter().map(|entry| entry.as_bytes()))
        .map(|directory| directory.join(OsStr::from_bytes(bytes)))
        .find(|candidate| !bytes.is_empty() && executable(candidate).is_ok())
        .and_then(|found| CString::new(found.into_os_string().into_encoded_bytes()).ok())
        .ok_or_else(|| not_found(format!("exec: \"{shown}\": executable file not found in $PATH")))
}

/// The directories that programs are looked for in.
pub fn search_path<'a>(env: impl DoubleEndedIterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a Path> {
    let path = env
        .rev()
        .find_map(|entry| entry.strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH);
    path.split(|byte| *byte == b':')
        .map(|directory| if directory.is_empty() { &b"."[..] } else { directory })
        .map(|directory| Path::new(OsStr::from_bytes(directory)))
}

/// What the kernel said to an execve of a program that was found.
pub fn refused(program: &CString, error: &std::io::Error) -> Failure {
    // A missing interpreter or dynamic loader.
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    let reason = if missing {
        FailureReason::CommandNotFound
    } else {
        FailureReason::CommandNotExecutable
    };
    Failure::new(
        reason,
        format!("exec {}: {}", program.to_string_lossy(), describe(error)),
    )
}

fn executable(path: &Path) -> rustix::io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(Errno::ISDIR);
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // Seccomp profiles of before 2020 do not know faccessat2(2). All ids of the process are the same here.
        Err(Errno::PERM | Errno::NOSYS) => rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()),
        checked => checked,
    }
}

fn not_found(message: String) -> Failure {
    Failure::new(FailureReason::CommandNotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn find(name: &str, path: &str) -> Result<CString> {
        find_program(
            &CString::new(name).unwrap(),
            &[CString::new(format!("PATH={path}")).unwrap()],
        )
    }

    #[test]
    fn speaks_as_docker_does() {
        let base = std::env::temp_dir().join(format!("hrun-agent-command-{}", std::process::id()));
        fs::create_dir_all(base.join("dir")).unwrap();
        fs::write(base.join("plain"), "").unwrap();
        fs::write(base.join("tool"), "").unwrap();
        fs::set_permissions(base.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        let base_text = base.to_str().unwrap();

        assert_eq!(
            find("tool", &format!("/nowhere:{base_text}")).unwrap().to_bytes(),
            format!("{base_text}/tool").as_bytes()
        );
        let cases = [
            (
                "tool".into(),
                FailureReason::CommandNotFound,
                "exec: \"tool\": executable file not found in $PATH".into(),
            ),
            (
                format!("{base_text}/nope"),
                FailureReason::CommandNotFound,
                format!("exec: \"{base_text}/nope\": stat {base_text}/nope: no such file or directory"),
            ),
            (
                format!("{base_text}/plain"),
                FailureReason::CommandNotExecutable,
                format!("exec: \"{base_text}/plain\": permission denied"),
            ),
            (
                format!("{base_text}/dir"),
                FailureReason::CommandNotExecutable,
                format!("exec: \"{base_text}/dir\": is a directory"),
            ),
        ];
        for (name, reason, message) in cases {
            let failure = find(&name, "/nowhere").unwrap_err();
            assert_eq!((failure.reason, failure.message), (reason, message));
        }
        // A directory or a plain file in PATH is passed over.
        assert_eq!(
            find("dir", base_text).unwrap_err().reason,
            FailureReason::CommandNotFound
        );
        fs::remove_dir_all(&base).unwrap();
    }
}
