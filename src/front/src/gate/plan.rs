use serde_json::Value;

use super::names::{Name, Names};
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
    /// Most bytes per second in each direction.
    pub rate: Option<u64>,
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
            rate: match &value["rate"] {
                Value::Null => None,
                rate => Some(rate.as_u64()?),
            },
            policy: match &value["allow"] {
                Value::Null => Policy::open(),
                list => closed(list.as_array()?, value["servers"].as_array()?)?,
            },
        })
    }
}

fn closed(list: &[Value], servers: &[Value]) -> Option<Policy> {
    let (mut ranges, mut names) = (Vec::new(), Vec::new());
    for value in list {
        let port = match &value["port"] {
            Value::Null => None,
            port => Some(u16::try_from(port.as_u64()?).ok()?),
        };
        if let Some(name) = value["name"].as_str() {
            let name = name.to_ascii_lowercase();
            names.push(Name { name, port });
            continue;
        }
        let (address, length) = value["range"].as_str()?.split_once('/')?;
        ranges.push(Range::new(address.parse().ok()?, length.parse().ok()?, port)?);
    }
    let servers = servers.iter().map(|server| server.as_str()?.parse().ok());
    Some(Policy::closed(
        ranges,
        Names::new(names, servers.collect::<Option<_>>()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_whole_plan_and_none_that_is_not_understood() {
        let plan = |allow: &str| {
            format!(r#"{{"program":"/p","arguments":["-q"],"uid":7,"servers":["10.0.2.3"],"allow":{allow}}}"#)
        };
        let parsed = Plan::parse(plan("null").as_bytes()).unwrap();
        assert_eq!((parsed.arguments, parsed.uid), (vec!["-q".to_owned()], Some(7)));
        assert!(Plan::parse(plan(r#"[{"range":"10.0.0.0/8","port":80},{"range":"fd00::/64"}]"#).as_bytes()).is_some());
        assert!(Plan::parse(plan(r#"[{"name":"a.example"},{"name":"b.example","port":443}]"#).as_bytes()).is_some());
        for wrong in [
            "{}",
            r#"[{"range":"10.0.0.0/33"}]"#,
            r#"[{"range":"10.0.0.0"}]"#,
            r#"[{"range":"::/0","port":65536}]"#,
            r#"[{"name":"a.example","port":65536}]"#,
            r#"[],"servers":["nobody"]"#,
        ] {
            assert!(Plan::parse(plan(wrong).as_bytes()).is_none(), "{wrong}");
        }
        let paced = |rate: &str| Plan::parse(plan(&format!(r#"null,"rate":{rate}"#)).as_bytes()).map(|plan| plan.rate);
        assert_eq!([paced("null"), paced("5")], [Some(None), Some(Some(5))]);
        assert!(paced("-1").is_none() && paced("\"5\"").is_none());
        assert!(Plan::parse(b"").is_none());
    }
}
