use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use serde_json::Value;

use super::owners::IdMap;

/// Why there is no stand-in: an errno for programs, a sentence for people.
#[derive(Debug)]
pub struct Trouble {
    pub errno: Errno,
    pub message: String,
}

/// Adds to an error what was being done.
pub trait Why<T> {
    fn why(self, what: impl fmt::Display) -> Result<T, Trouble>;

    fn why_of(self, what: &str, path: &Path) -> Result<T, Trouble>
    where
        Self: Sized,
    {
        self.why(format_args!("{what} {}", path.display()))
    }
}

impl<T> Why<T> for Result<T, Errno> {
    fn why(self, what: impl fmt::Display) -> Result<T, Trouble> {
        self.map_err(|errno| Trouble {
            errno,
            message: format!("{what}: {}", errno.desc()),
        })
    }
}

impl<T> Why<T> for std::io::Result<T> {
    fn why(self, what: impl fmt::Display) -> Result<T, Trouble> {
        self.map_err(|error| Trouble {
            errno: error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw),
            message: format!("{what}: {error}"),
        })
    }
}

pub struct Request {
    pub control_path: PathBuf,
    pub socket_path: Option<PathBuf>,
    pub shares: Vec<Share>,
    pub server: Option<Vec<String>>,
    pub stdio: Stdio,
    /// What is shown as the command line of the process; empty: its own.
    pub title: Vec<String>,
    /// The share that becomes the root of the stand-in.
    pub root: Option<String>,
    /// What must exist in that share before it is made read-only.
    pub mount_points: Vec<MountPoint>,
    pub cgroups: Vec<Cgroup>,
    pub namespaces: Namespaces,
    /// Another stand-in, whose share server serves these shares too.
    pub served_by: Option<i32>,
}

pub struct Share {
    pub name: String,
    pub path: PathBuf,
    pub readonly: bool,
    pub create: bool,
    /// With everything that is mounted below it.
    pub recursive: bool,
    /// Where in the root it is seen too.
    pub at: Option<PathBuf>,
    pub id_map: Option<IdMap>,
}

pub struct MountPoint {
    pub path: PathBuf,
    pub kind: PointKind,
}

pub enum PointKind {
    Directory,
    File,
    /// Whichever the share of this name is.
    AsShare(String),
}

/// A directory of a cgroup hierarchy, below the place where that is mounted.
pub struct Cgroup {
    pub mount: PathBuf,
    pub path: PathBuf,
}

pub struct Namespaces {
    pub new: CloneFlags,
    /// Of which kind each of them must be.
    pub join: Vec<(CloneFlags, PathBuf)>,
    /// All namespaces of this process, which is another stand-in.
    pub of: Option<i32>,
}

pub enum Stdio {
    None,
    Inherit,
    Terminal { console_socket: PathBuf },
}

const MOST_SHARES: usize = 1024;

impl Request {
    pub fn parse(text: &[u8]) -> Result<Request, Trouble> {
        let value: Value = serde_json::from_slice(text).map_err(|error| invalid(format!("no request: {error}")))?;
        let path = |name: &str| value[name].as_str().map(PathBuf::from);
        let control_path = path("controlPath").ok_or_else(|| invalid("controlPath is missing"))?;
        let server = match &value["server"] {
            Value::Null => None,
            server => Some(
                strings(server)
                    .filter(|argv| !argv.is_empty())
                    .ok_or_else(|| invalid("server is no argv"))?,
            ),
        };
        let socket_path = path("socketPath");
        if server.is_some() && socket_path.is_none() {
            return Err(invalid("socketPath is missing"));
        }
        let stdio = match value["stdio"].as_str() {
            Some("inherit") => Stdio::Inherit,
            Some("terminal") => {
                let console_socket = path("consoleSocket").ok_or_else(|| invalid("consoleSocket is missing"))?;
                Stdio::Terminal { console_socket }
            }
            Some("none") => Stdio::None,
            None if value["stdio"].is_null() => Stdio::None,
            _ => return Err(invalid("stdio is neither none, inherit nor terminal")),
        };
        Ok(Request {
            control_path,
            socket_path,
            shares: shares(&value["shares"])?,
            server,
            stdio,
            title: match &value["title"] {
                Value::Null => Vec::new(),
                title => strings(title).ok_or_else(|| invalid("title is no argv"))?,
            },
            root: value["root"].as_str().map(str::to_owned),
            mount_points: list(&value["mountPoints"], "mountPoints", |item| {
                let kind = match (item["directory"].as_bool(), item["share"].as_str()) {
                    (_, Some(share)) => PointKind::AsShare(share.into()),
                    (Some(true), _) => PointKind::Directory,
                    (Some(false), _) => PointKind::File,
                    (None, None) => return None,
                };
                let path = item["path"].as_str()?.into();
                Some(MountPoint { path, kind })
            })?,
            cgroups: list(&value["cgroups"], "cgroups", |item| {
                Some(Cgroup {
                    mount: item["mount"].as_str()?.into(),
                    path: item["path"].as_str()?.into(),
                })
            })?,
            namespaces: namespaces(&value["namespaces"])?,
            served_by: process_id(&value["servedBy"])?,
        })
    }
}

fn namespaces(value: &Value) -> Result<Namespaces, Trouble> {
    let kind = |item: &Value| match item.as_str()? {
        "pid" => Some(CloneFlags::CLONE_NEWPID),
        "network" => Some(CloneFlags::CLONE_NEWNET),
        "ipc" => Some(CloneFlags::CLONE_NEWIPC),
        "uts" => Some(CloneFlags::CLONE_NEWUTS),
        _ => None,
    };
    let new = list(&value["new"], "namespaces.new", kind)?;
    Ok(Namespaces {
        new: new.into_iter().collect(),
        join: list(&value["join"], "namespaces.join", |item| {
            Some((kind(&item["type"])?, item["path"].as_str()?.into()))
        })?,
        of: process_id(&value["of"])?,
    })
}

fn process_id(value: &Value) -> Result<Option<i32>, Trouble> {
    if value.is_null() {
        return Ok(None);
    }
    let pid = value
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok())
        .filter(|&pid| pid > 0);
    pid.map(Some).ok_or_else(|| invalid("not a pid"))
}

/// A list that may be missing; what is wrong in it is told by its name.
fn list<T>(value: &Value, name: &str, parse: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, Trouble> {
    let wrong = || invalid(format!("{name} is not as it must be"));
    match value {
        Value::Null => Ok(Vec::new()),
        _ => value
            .as_array()
            .filter(|items| items.len() <= MOST_SHARES)
            .ok_or_else(wrong)?
            .iter()
            .map(|item| parse(item).ok_or_else(wrong))
            .collect(),
    }
}

fn shares(value: &Value) -> Result<Vec<Share>, Trouble> {
    let none = Vec::new();
    let items = if value.is_null() {
        &none
    } else {
        value.as_array().ok_or_else(|| invalid("shares is no list"))?
    };
    if items.len() > MOST_SHARES {
        return Err(invalid(format!("more than {MOST_SHARES} shares")));
    }
    let mut shares: Vec<Share> = Vec::new();
    for item in items {
        let (Some(name), Some(path)) = (item["name"].as_str(), item["path"].as_str()) else {
            return Err(invalid("a share without name or path"));
        };
        // One component, and nothing that the path of a mount could mean otherwise.
        let plain = !name.is_empty() && name.len() <= 255 && name != "." && name != ".." && !name.contains(['/', '\0']);
        if !plain || shares.iter().any(|share| share.name == name) {
            return Err(invalid(format!("a share cannot be called {name:?}, or two are")));
        }
        shares.push(Share {
            name: name.into(),
            path: path.into(),
            readonly: item["readonly"]
                .as_bool()
                .ok_or_else(|| invalid("a share without readonly"))?,
            create: item["create"].as_bool().unwrap_or(false),
            recursive: item["recursive"].as_bool().unwrap_or(true),
            at: item["at"].as_str().map(PathBuf::from),
            id_map: match &item["idMap"] {
                Value::Null => None,
                map => Some(IdMap::parse(map).ok_or_else(|| invalid("idMap is not as it must be"))?),
            },
        });
    }
    Ok(shares)
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value
        .as_array()?
        .iter()
        .map(|item| item.as_str().map(str::to_owned))
        .collect()
}

pub fn invalid(message: impl Into<String>) -> Trouble {
    Trouble {
        errno: Errno::EINVAL,
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<Request, Trouble> {
        Request::parse(value.to_string().as_bytes())
    }

    #[test]
    fn takes_what_the_document_says() {
        let request = parse(json!({
            "op": "standIn", "controlPath": "/run/c", "socketPath": "/run/s",
            "shares": [{ "name": "0", "path": "/a", "readonly": true }, { "name": "1", "path": "b", "readonly": false, "create": true }],
            "server": ["/bin/virtiofsd", "--fd={fd}"],
        }));
        let request = request.unwrap_or_else(|trouble| panic!("{}", trouble.message));
        assert_eq!(request.shares.len(), 2);
        assert!(request.shares[0].readonly && !request.shares[0].create && request.shares[1].create);
        assert!(matches!(request.stdio, Stdio::None));
    }

    #[test]
    fn refuses_names_that_are_more_than_a_name() {
        let names = ["", ".", "..", "a/b", "/", "a\0b", &"x".repeat(256)];
        for name in names {
            let shares = json!([{ "name": name, "path": "/", "readonly": true }]);
            let trouble = parse(json!({ "controlPath": "/c", "shares": shares })).err().unwrap();
            assert_eq!(trouble.errno, Errno::EINVAL, "{name:?}");
        }
        let twice =
            json!([{ "name": "a", "path": "/", "readonly": true }, { "name": "a", "path": "/", "readonly": true }]);
        assert!(parse(json!({ "controlPath": "/c", "shares": twice })).is_err());
    }

    #[test]
    fn refuses_what_is_missing_or_of_another_kind() {
        let requests = [
            json!(null),
            json!({}),
            json!({ "controlPath": "/c", "server": ["x"] }),
            json!({ "controlPath": "/c", "socketPath": "/s", "server": [] }),
            json!({ "controlPath": "/c", "socketPath": "/s", "server": "x" }),
            json!({ "controlPath": "/c", "stdio": "terminal" }),
            json!({ "controlPath": "/c", "stdio": 7 }),
            json!({ "controlPath": "/c", "shares": {} }),
            json!({ "controlPath": "/c", "shares": [{ "name": "a", "path": "/" }] }),
            json!({ "controlPath": "/c", "shares": [{ "name": "a", "path": "/", "readonly": true, "idMap": {} }] }),
            json!({ "controlPath": "/c", "shares": [{ "name": "a", "path": "/", "readonly": true,
                "idMap": { "uids": [[0, 1]], "gids": [], "recursive": false } }] }),
        ];
        for request in requests {
            assert!(parse(request.clone()).is_err(), "{request}");
        }
    }
}
