//! Which namespaces a container gets: new ones, those of another container, or the guest's.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use rustix::thread::{ThreadNameSpaceType as Type, UnshareFlags};

use super::channel::{ASK_CLOCKS, ASK_IDS};
use super::fork::PidNamespace;
use super::id_maps::IdMaps;
use super::plan::ProcessPlan;
use super::{Container, Status};
use crate::contract::{CreateContainerRequest, FailureReason, Namespaces};
use crate::failure::{Doing, Failure, Result};

const KINDS: [(&str, Type, UnshareFlags); 8] = [
    ("pid", Type::PROCESS_ID, UnshareFlags::NEWPID),
    ("mount", Type::MOUNT, UnshareFlags::NEWNS),
    ("network", Type::NETWORK, UnshareFlags::NEWNET),
    ("ipc", Type::INTER_PROCESS_COMMUNICATION, UnshareFlags::NEWIPC),
    ("uts", Type::HOST_NAME_AND_NIS_DOMAIN_NAME, UnshareFlags::NEWUTS),
    ("user", Type::USER, UnshareFlags::NEWUSER),
    ("cgroup", Type::CONTROL_GROUP, UnshareFlags::NEWCGROUP),
    ("time", Type::TIME, UnshareFlags::NEWTIME),
];

/// What a container gets that asks for nothing.
const USUAL: [&str; 5] = ["pid", "mount", "ipc", "uts", "cgroup"];

pub struct Spaces {
    /// New ones, but for pid and user.
    fresh: UnshareFlags,
    new_user: bool,
    joined: Vec<(Type, Arc<Container>)>,
    joined_user: Option<Arc<Container>>,
    joined_pid: Option<Arc<Container>>,
    /// All that are not the guest's: what a further process joins.
    pub own: Type,
    /// Of the user namespace, if there is one.
    pub ids: Option<Arc<IdMaps>>,
    has_clocks: bool,
}

impl Spaces {
    /// `peer` finds another container of this guest.
    pub fn plan(request: &CreateContainerRequest, peer: impl Fn(&str) -> Result<Arc<Container>>) -> Result<Self> {
        let mut spaces = Self {
            fresh: UnshareFlags::empty(),
            new_user: false,
            joined: Vec::new(),
            joined_user: None,
            joined_pid: None,
            own: Type::empty(),
            ids: None,
            has_clocks: !request.time_offsets.is_empty(),
        };
        match &request.namespaces {
            None => {
                for name in USUAL {
                    spaces.add(name, None)?;
                }
            }
            Some(Namespaces { namespaces }) => {
                for namespace in namespaces {
                    let owner = match namespace.container_id.as_str() {
                        "" => None,
                        id => Some(alive(peer(id)?)?),
                    };
                    spaces.add(&namespace.r#type, owner)?;
                }
            }
        }
        spaces.complete(request)?;
        Ok(spaces)
    }

    fn add(&mut self, name: &str, owner: Option<Arc<Container>>) -> Result<()> {
        let known = KINDS.iter().find(|(known, ..)| *known == name);
        let &(_, kind, flag) = known.ok_or_else(|| Failure::invalid(format!("namespace {name:?} does not exist")))?;
        if self.own.contains(kind) {
            return Err(Failure::invalid(format!("malformed spec file: duplicated ns {name:?}")));
        }
        self.own |= kind;
        match (kind, owner) {
            (Type::MOUNT, Some(_)) => return Err(Failure::invalid("the mount namespace of another container")),
            (Type::PROCESS_ID, owner) => self.joined_pid = owner,
            (Type::USER, None) => self.new_user = true,
            (Type::USER, owner) => self.joined_user = owner,
            (kind, Some(owner)) => self.joined.push((kind, owner)),
            (_, None) => self.fresh |= flag,
        }
        Ok(())
    }

    fn complete(&mut self, request: &CreateContainerRequest) -> Result<()> {
        for (kind, name) in [(Type::MOUNT, "mount"), (Type::PROCESS_ID, "pid")] {
            if !self.own.contains(kind) {
                let message = format!("a container without a {name} namespace is not supported");
                return Err(Failure::new(FailureReason::Unsupported, message));
            }
        }
        let maps = IdMaps::new(&request.uid_mappings, &request.gid_mappings)?;
        if !self.new_user && !maps.is_empty() {
            return Err(Failure::invalid("id mappings without a new user namespace"));
        }
        self.ids = match (&self.joined_user, self.new_user) {
            (Some(owner), _) => owner.ids.clone(),
            (None, true) if maps.is_complete() => Some(Arc::new(maps)),
            (None, true) => return Err(Failure::invalid("a user namespace needs mappings of uids and gids")),
            (None, false) => None,
        };
        if self.has_clocks && !self.fresh.contains(UnshareFlags::NEWTIME) {
            return Err(Failure::invalid("clock offsets without a new time namespace"));
        }
        Ok(())
    }

    pub fn in_user_namespace(&self) -> bool {
        self.own.contains(Type::USER)
    }

    /// Whether its network namespace is the guest's, or another that belongs to the guest's own root.
    pub fn has_own_network(&self) -> bool {
        self.fresh.contains(UnshareFlags::NEWNET)
    }

    pub fn pid(&self) -> PidNamespace<'_> {
        match &self.joined_pid {
            Some(owner) => PidNamespace::Of(owner.init.pidfd().as_fd()),
            None => PidNamespace::New,
        }
    }

    /// What the child must keep to enter them.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let owners = self.joined.iter().map(|(_, owner)| owner).chain(&self.joined_user);
        owners.map(|owner| owner.init.pidfd().as_raw_fd()).collect()
    }

    /// In the child, whose pid namespace is right already. What belongs to the guest's root is entered before the user
    /// namespace, without which the child could not; new ones after it, because they are to belong to it.
    pub fn enter(&self, plan: &ProcessPlan) -> Result<()> {
        for (kind, owner) in &self.joined {
            join(owner, *kind)?;
        }
        if let Some(owner) = &self.joined_user {
            join(owner, Type::USER)?;
            become_root()?;
        }
        if self.new_user {
            unshare(UnshareFlags::NEWUSER)?;
            plan.channel.ask(ASK_IDS)?;
            become_root()?;
        }
        unshare(self.fresh)?;
        if self.has_clocks {
            plan.channel.ask(ASK_CLOCKS)?;
        }
        Ok(())
    }
}

/// Root of the user namespace that the process has just entered.
pub fn become_root() -> Result<()> {
    let doing = || "becoming root of the user namespace".to_owned();
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing(doing)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing(doing)?;
    rustix::thread::set_thread_groups(&[]).doing(doing)
}

fn join(owner: &Container, kind: Type) -> Result<()> {
    rustix::thread::move_into_thread_name_spaces(owner.init.pidfd().as_fd(), kind)
        .doing(|| format!("joining a namespace of {}", owner.id))
}

fn unshare(flags: UnshareFlags) -> Result<()> {
    // SAFETY: this process has one thread, and CLONE_FILES is not among the flags.
    unsafe { rustix::thread::unshare_unsafe(flags) }.doing(|| "entering new namespaces".into())
}

fn alive(container: Arc<Container>) -> Result<Arc<Container>> {
    if container.status() == Status::Stopped {
        return Err(container.wrong_state("joined"));
    }
    Ok(container)
}
