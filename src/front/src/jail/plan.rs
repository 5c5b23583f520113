use std::path::PathBuf;

use serde_json::Value;

use crate::identity::own_user;

/// What the daemon wants (src/vmm/jail/launch.ts).
pub struct Plan {
    /// What is executed: its path in the tree, or, without one, on the host.
    pub program: String,
    /// How many descriptors above stderr it gets; the report goes to the next one.
    pub descriptors: i32,
    /// The directory that becomes its root.
    pub tree: Option<PathBuf>,
    /// User and group of its own.
    pub uid: Option<u32>,
    /// Not root: a user namespace in which there is nobody but the caller.
    pub user_namespace: bool,
    /// Device nodes of the host that it needs.
    pub devices: Vec<PathBuf>,
    /// Directories of cgroups to be in.
    pub cgroups: Vec<PathBuf>,
    pub open_files: u64,
    pub processes: u64,
    pub file_bytes: u64,
    pub oom_score: i64,
    /// Steps that may fail.
    pub weaker: Vec<String>,
}

impl Plan {
    pub fn parse(text: &[u8]) -> Option<Plan> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let paths = |name: &str| Some(strings(&value[name])?.into_iter().map(PathBuf::from).collect());
        Some(Plan {
            program: value["program"].as_str()?.to_owned(),
            descriptors: i32::try_from(value["descriptors"].as_u64()?).ok()?,
            tree: value["tree"].as_str().map(PathBuf::from),
            uid: own_user(&value["uid"])?,
            user_namespace: value["userNamespace"].as_bool()?,
            devices: paths("devices")?,
            cgroups: paths("cgroups")?,
            open_files: value["openFiles"].as_u64()?,
            processes: value["processes"].as_u64()?,
            file_bytes: value["fileBytes"].as_u64()?,
            oom_score: value["oomScore"].as_i64()?,
            weaker: strings(&value["weaker"])?,
        })
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?;
    list.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_whole_plan_and_no_user_that_is_root() {
        let plan = |uid: &str| {
            format!(
                r#"{{"program":"/q","descriptors":2,"tree":"/t","uid":{uid},"userNamespace":false,"devices":[],
                "cgroups":["/c"],"openFiles":1,"processes":2,"fileBytes":3,"oomScore":4,"weaker":["uid"]}}"#
            )
        };
        let parsed = Plan::parse(plan("77").as_bytes()).unwrap();
        assert_eq!((parsed.uid, parsed.descriptors, parsed.file_bytes), (Some(77), 2, 3));
        assert_eq!(parsed.cgroups, [PathBuf::from("/c")]);
        assert_eq!(Plan::parse(plan("null").as_bytes()).unwrap().uid, None);
        for uid in ["0", "-1", "4294967295", "\"77\""] {
            assert!(Plan::parse(plan(uid).as_bytes()).is_none(), "{uid}");
        }
        assert!(Plan::parse(b"{}").is_none());
    }
}
