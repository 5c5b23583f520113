use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use crate::failure::Failure;
use crate::paths::{self, Paths};

/// All that the keeper and the daemon see of the environment of who happened to call first. Anything else, above all
/// what changes how programs are loaded (`NODE_OPTIONS`, `LD_*`), stays out.
const KEPT: [&str; 19] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "DOCKER_CONFIG",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "XDG_RUNTIME_DIR",
];

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub fn scrubbed(paths: &Paths) -> Result<Vec<(OsString, OsString)>, Failure> {
    let mut kept: Vec<_> = env::vars_os()
        .filter(|(name, _)| {
            let name = name.as_bytes();
            name.starts_with(b"HRUN_") || KEPT.iter().any(|kept| kept.as_bytes() == name)
        })
        .collect();
    if env::var_os("PATH").is_none() {
        kept.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    let settled = [
        ("HRUN_ROOT", paths.root.clone()),
        ("HRUN_RUN", paths.run.clone()),
        ("HRUN_CONFIG", paths.config.clone()),
        ("HRUN_LIBEXEC", paths::libexec()?),
    ];
    // A later one of the same name wins.
    kept.extend(settled.map(|(name, path)| (name.into(), path.into_os_string())));
    Ok(kept)
}
