//! What every process of a container lives with: its seccomp filter, its personality, its session keyring.

use std::ffi::CString;

use crate::contract::{CreateContainerRequest, Personality};
use crate::failure::{Doing, Failure, Result};
use crate::seccomp::Filter;
use crate::sys;

#[derive(Default)]
pub struct Confinement {
    filter: Option<Filter>,
    personality: Option<u32>,
    /// Its name; absent: the guest's own.
    keyring: Option<CString>,
}

impl Confinement {
    pub fn plan(request: &CreateContainerRequest) -> Result<Self> {
        let keyring = format!("_ses.{}", request.container_id);
        Ok(Self {
            filter: request.seccomp.as_ref().map(Filter::compile).transpose()?,
            personality: request.personality.as_ref().map(persona).transpose()?,
            keyring: (!request.no_new_keyring).then(|| CString::new(keyring).ok()).flatten(),
        })
    }

    /// Before the process becomes its user.
    pub fn enter(&self) -> Result<()> {
        if let Some(keyring) = &self.keyring {
            sys::join_session_keyring(keyring).doing(|| "joining a session keyring".into())?;
        }
        if let Some(persona) = self.personality {
            sys::set_personality(persona).doing(|| "setting the personality".into())?;
        }
        Ok(())
    }

    pub fn load_filter(&self) -> Result<()> {
        match &self.filter {
            Some(filter) => filter.load().doing(|| "loading the seccomp filter".into()),
            None => Ok(()),
        }
    }
}

/// personality(2)
fn persona(Personality { domain, flags }: &Personality) -> Result<u32> {
    if !flags.is_empty() {
        return Err(Failure::invalid("personality: additional flags are not supported"));
    }
    match domain.as_str() {
        "LINUX" => Ok(0x0000),
        "LINUX32" => Ok(0x0008),
        other => Err(Failure::invalid(format!("invalid personality domain {other}"))),
    }
}
