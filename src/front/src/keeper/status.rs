use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};

use crate::paths::Paths;

/// What the keeper's lock file says, for messages to people.
pub struct Status {
    pub keeper: u32,
    pub daemon: Option<u32>,
    /// Why the daemon is not started at once any more.
    pub trouble: Option<String>,
}

impl Status {
    /// `None`: there is no keeper, or it is writing at this moment.
    pub fn read(paths: &Paths) -> Option<Status> {
        let value: Value = serde_json::from_slice(&fs::read(paths.lock()).ok()?).ok()?;
        let pid = |name: &str| value[name].as_u64().and_then(|pid| u32::try_from(pid).ok());
        Some(Status {
            keeper: pid("keeper")?,
            daemon: pid("daemon"),
            trouble: value["trouble"].as_str().map(str::to_owned),
        })
    }

    /// A failure to write costs a message its pid and nothing else.
    pub fn write(&self, lock: &File) {
        let text = json!({ "keeper": self.keeper, "daemon": self.daemon, "trouble": self.trouble }).to_string();
        let _ = lock.write_all_at(text.as_bytes(), 0);
        let _ = lock.set_len(text.len() as u64);
    }
}
