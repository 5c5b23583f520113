use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

use super::request::{Request, Trouble, Why};

/// What is listened on before the namespace in which it has a name is left; removed if there will be no stand-in.
#[derive(Default)]
pub struct Sockets {
    pub control: Option<UnixListener>,
    pub server: Option<UnixListener>,
    paths: Vec<PathBuf>,
}

impl Sockets {
    pub fn listen(&mut self, request: &Request) -> Result<(), Trouble> {
        self.control = Some(self.bind(&request.control_path)?);
        if let (Some(_), Some(path)) = (&request.server, &request.socket_path) {
            self.server = Some(self.bind(path)?);
        }
        Ok(())
    }

    /// From here on they stay.
    pub fn keep(&mut self) {
        self.paths.clear();
    }

    fn bind(&mut self, path: &Path) -> Result<UnixListener, Trouble> {
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.why_of("cannot listen on", path)?;
        self.paths.push(path.to_owned());
        Ok(listener)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = fs::remove_file(path);
        }
    }
}
