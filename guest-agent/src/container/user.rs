//! Which user a process runs as: Docker's rules over the container's own /etc/passwd and /etc/group.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use super::paths::open_in;
use crate::contract::{FailureReason, Process};
use crate::failure::{Failure, Result};

/// Longer files are read up to here.
const MAX_FILE: u64 = 4 << 20;
/// Ids beyond are refused, as Docker does.
const MAX_ID: u32 = i32::MAX as u32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Reads the files beneath `root` and resolves what the request asks for.
pub fn resolve(root: BorrowedFd<'_>, process: &Process) -> Result<User> {
    let passwd = read_database(root, "/etc/passwd");
    let group = if process.user.is_empty() {
        String::new()
    } else {
        read_database(root, "/etc/group")
    };
    let mut user = if process.user.is_empty() {
        let home = accounts(&passwd)
            .find(|account| account.uid == process.uid)
            .map(|account| account.home);
        User {
            uid: process.uid,
            gid: process.gid,
            groups: Vec::new(),
            home: home.unwrap_or("/").to_owned(),
        }
    } else {
        look_up(&passwd, &group, &process.user)?
    };
    if !process.user.is_empty() {
        // As Docker has it: who gives up its group may still not pass for a stranger to it.
        user.groups.push(user.gid);
    }
    user.groups.extend(&process.additional_gids);
    user.groups.sort_unstable();
    user.groups.dedup();
    Ok(user)
}

/// The name of `uid`, for listings.
pub fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    accounts(passwd)
        .find(|account| account.uid == uid)
        .map(|account| account.name)
}

/// A file of the container's root; nothing when it cannot be read or is no plain file.
pub fn read_database(root: BorrowedFd<'_>, path: &str) -> String {
    let Ok(file) = open_in(root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) else {
        return String::new();
    };
    let plain = rustix::fs::fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    let mut bytes = Vec::new();
    if plain {
        let _ = File::from(file).take(MAX_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (_, uid, gid) = (
            fields.next()?,
            fields.next()?.parse().ok()?,
            fields.next()?.parse().ok()?,
        );
        let home = fields.nth(1).unwrap_or("");
        Some(Account { name, uid, gid, home })
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (_, gid) = (fields.next()?, fields.next()?.parse().ok()?);
        Some(Group {
            name,
            gid,
            members: fields.next().unwrap_or(""),
        })
    })
}

pub(crate) fn look_up(passwd: &str, group: &str, wanted: &str) -> Result<User> {
    let (user_arg, group_arg) = wanted.split_once(':').unwrap_or((wanted, ""));
    // A name in the file wins over a number.
    let number = user_arg.parse::<u32>().ok();
    let account = accounts(passwd).find(|account| account.name == user_arg).or_else(|| {
        let uid = if user_arg.is_empty() { Some(0) } else { number };
        accounts(passwd).find(|account| Some(account.uid) == uid)
    });
    let mut user = match (&account, number) {
        (Some(account), _) => {
            let home = if account.home.is_empty() { "/" } else { account.home };
            User {
                uid: account.uid,
                gid: account.gid,
                groups: Vec::new(),
                home: home.to_owned(),
            }
        }
        (None, Some(uid)) => User {
            uid: in_range(uid)?,
            gid: 0,
            groups: Vec::new(),
            home: "/".to_owned(),
        },
        (None, None) if user_arg.is_empty() => User {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            home: "/".to_owned(),
        },
        (None, None) => {
            return Err(unknown(format!(
                "unable to find user {user_arg}: no matching entries in passwd file"
            )));
        }
    };
    if group_arg.is_empty() {
        if let Some(account) = account {
            let member = |group: &Group<'_>| group.members.split(',').any(|name| name == account.name);
            user.groups = groups(group).filter(member).map(|group| group.gid).collect();
        }
        return Ok(user);
    }
    let number = group_arg.parse::<u32>().ok();
    let found = groups(group)
        .find(|group| group.name == group_arg)
        .or_else(|| groups(group).find(|group| Some(group.gid) == number))
        .map(|group| group.gid);
    user.gid = match (found, number) {
        (Some(gid), _) => gid,
        (None, Some(gid)) => in_range(gid)?,
        (None, None) => {
            return Err(unknown(format!(
                "unable to find group {group_arg}: no matching entries in group file"
            )));
        }
    };
    Ok(user)
}

fn in_range(id: u32) -> Result<u32> {
    if id <= MAX_ID {
        Ok(id)
    } else {
        Err(unknown(format!("uids and gids must be in range 0-{MAX_ID}")))
    }
}

fn unknown(message: String) -> Failure {
    Failure::new(FailureReason::UnknownUser, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:44::/srv/www:/bin/false\n77:x:1000:1000::/seven:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,web\nmail:x:8:web\nstaff:x:50:\n";

    fn user(wanted: &str) -> Result<User> {
        look_up(PASSWD, GROUP, wanted)
    }

    #[test]
    fn finds_a_name_with_its_groups_and_home() {
        let web = User {
            uid: 33,
            gid: 44,
            groups: vec![10, 8],
            home: "/srv/www".into(),
        };
        assert_eq!(user("web").unwrap(), web);
        assert_eq!(user("33").unwrap(), web);
    }

    #[test]
    fn a_group_given_replaces_all_groups() {
        let web = user("web:staff").unwrap();
        assert_eq!((web.gid, web.groups), (50, vec![]));
        assert_eq!(user("web:4711").unwrap().gid, 4711);
        assert_eq!(user(":staff").unwrap().uid, 0);
    }

    #[test]
    fn takes_numbers_nobody_has_and_prefers_names() {
        let stranger = User {
            uid: 4711,
            gid: 0,
            groups: vec![],
            home: "/".into(),
        };
        assert_eq!(user("4711").unwrap(), stranger);
        assert_eq!(user("77").unwrap().uid, 1000);
    }

    #[test]
    fn refuses_unknown_names_and_numbers_out_of_range() {
        for wanted in ["nobody", "web:nogroup", "4294967295", "-1", "0:99999999999"] {
            assert_eq!(user(wanted).unwrap_err().reason, FailureReason::UnknownUser, "{wanted}");
        }
    }

    #[test]
    fn gets_along_without_any_file() {
        assert_eq!(look_up("", "", "0").unwrap().home, "/");
        assert_eq!(look_up("", "", "5:6").unwrap().gid, 6);
    }
}
