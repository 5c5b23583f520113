use serde_json::Value;

use super::policy::{Policy, Range};
use crate::identity::own_user;

/// What the daemon wants (src/network/userNetwork.ts).
pub struct Plan {
    /// Path of passt.
    pub program: String,
    pub arguments: Vec<String>,
    /// User and group of the gate's own.
    pub uid: Option<u32>,
    pub policy: Policy,
}

impl Plan {
    pub fn parse(text: &[u8]) -> Option<Plan> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let arguments = value["arguments"].as_array()?;
        Some(Plan {
            program: value["program"].as_str()?.to_owned(),
            arguments: arguments
                .iter()
                .map(|word| word.as_str().map(str::to_owned))
                .collect::<Option<_>>()?,
            uid: own_user(&value["uid"])?,
            policy: match &value["allow"] {
                Value::Null => Policy::open(),
                list => Policy::closed(list.as_array()?.iter().map(range).collect::<Option<_>>()?),
            },
        })
    }
}

fn range(value: &Value) -> Option<Range> {
    let (address, length) = value["range"].as_str()?.split_once('/')?;
    let port = match &value["port"] {
        Value::Null => None,
        port => Some(u16::try_from(port.as_u64()?).ok()?),
    };
    Range::new(address.parse().ok()?, length.parse().ok()?, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_whole_plan_and_none_that_is_not_understood() {
        let plan = |allow: &str| format!(r#"{{"program":"/p","arguments":["-q"],"uid":7,"allow":{allow}}}"#);
        let parsed = Plan::parse(plan("null").as_bytes()).unwrap();
        assert_eq!((parsed.arguments, parsed.uid), (vec!["-q".to_owned()], Some(7)));
        assert!(Plan::parse(plan(r#"[{"range":"10.0.0.0/8","port":80},{"range":"fd00::/64"}]"#).as_bytes()).is_some());
        for wrong in [
            "{}",
            r#"[{"range":"10.0.0.0/33"}]"#,
            r#"[{"range":"10.0.0.0"}]"#,
            r#"[{"range":"::/0","port":65536}]"#,
        ] {
            assert!(Plan::parse(plan(wrong).as_bytes()).is_none(), "{wrong}");
        }
        assert!(Plan::parse(b"").is_none());
    }
}
