//! Where hrun keeps its things, by environment or by the habits of root and of other users.

use std::env;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::failure::{Doing, Failure};

pub struct Paths {
    pub root: PathBuf,
    pub run: PathBuf,
    pub config: PathBuf,
}

impl Paths {
    pub fn from_environment() -> Result<Paths, Failure> {
        Ok(Paths {
            root: place("HRUN_ROOT", "/var/lib/hrun", || {
                Ok(variable("XDG_DATA_HOME")
                    .map_or_else(|| home(".local/share"), Ok)?
                    .join("hrun"))
            })?,
            run: place("HRUN_RUN", "/run/hrun", || Ok(runtime_directory()))?,
            config: place("HRUN_CONFIG", "/etc/hrun/config.json", || {
                Ok(variable("XDG_CONFIG_HOME")
                    .map_or_else(|| home(".config"), Ok)?
                    .join("hrun/config.json"))
            })?,
        })
    }

    pub fn socket(&self) -> PathBuf {
        self.run.join("hrund.sock")
    }

    pub fn lock(&self) -> PathBuf {
        self.run.join("keeper.lock")
    }

    pub fn log(&self) -> PathBuf {
        self.run.join("hrund.log")
    }
}

/// `libexec` beside the executable (a build) or beside its `bin` (an installation); `HRUN_LIBEXEC` before both.
pub fn libexec() -> Result<PathBuf, Failure> {
    let executable = env::current_exe().doing(|| "cannot find its own executable".into())?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    let beside = [directory.join("libexec"), directory.join("../libexec/hrun")];
    let candidates = match variable("HRUN_LIBEXEC").filter(|_| !gained_privileges()) {
        Some(chosen) => vec![chosen],
        None => beside.to_vec(),
    };
    candidates
        .iter()
        .find_map(|path| {
            path.join("hrund.mjs")
                .exists()
                .then(|| path.canonicalize().ok())
                .flatten()
        })
        .ok_or_else(|| {
            Failure::own(format!(
                "cannot start its daemon: no hrund.mjs in {}",
                listed(&candidates)
            ))
        })
}

fn listed(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(" or ")
}

/// Set-user-id or file capabilities: then the caller's environment must not choose what is executed.
fn gained_privileges() -> bool {
    // SAFETY: getauxval has no precondition.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

fn place(name: &str, for_root: &str, otherwise: impl Fn() -> Result<PathBuf, Failure>) -> Result<PathBuf, Failure> {
    let path = match variable(name) {
        Some(path) => path,
        None if geteuid().is_root() => PathBuf::from(for_root),
        None => otherwise()?,
    };
    std::path::absolute(&path).doing(|| format!("{name} is no path"))
}

fn runtime_directory() -> PathBuf {
    let uid = geteuid();
    let session = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from(format!("/run/user/{uid}")));
    match session.is_dir() {
        true => session.join("hrun"),
        false => PathBuf::from(format!("/tmp/hrun-{uid}")),
    }
}

fn home(below: &str) -> Result<PathBuf, Failure> {
    match variable("HOME") {
        Some(home) => Ok(home.join(below)),
        None => Err(Failure::own(
            "neither HOME nor HRUN_ROOT, HRUN_RUN and HRUN_CONFIG are set",
        )),
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.as_bytes().is_empty())
        .map(PathBuf::from)
}
