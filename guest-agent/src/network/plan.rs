//! A request of the host, checked and parsed.

use std::net::IpAddr;

use crate::contract::{ConfigureNetworkRequest, NetworkInterface, NetworkRoute};
use crate::failure::{Failure, Result};

const MOST_DEVICES: usize = 8;
/// Of each kind, per device.
const MOST_ENTRIES: usize = 1024;
const NAME_BYTES: usize = 15;

pub type Mac = [u8; 6];

pub struct Plan {
    pub devices: Vec<DevicePlan>,
}

#[derive(Debug, PartialEq)]
pub struct DevicePlan {
    pub slot: u8,
    pub name: String,
    pub mac: Mac,
    pub mtu: u32,
    pub addresses: Vec<Prefix>,
    pub routes: Vec<Route>,
    pub neighbours: Vec<(IpAddr, Mac)>,
}

/// An address and the length of its prefix in bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prefix {
    pub address: IpAddr,
    pub length: u8,
}

#[derive(Debug, PartialEq)]
pub struct Route {
    pub destination: Prefix,
    pub gateway: Option<IpAddr>,
    pub source: Option<IpAddr>,
    pub metric: u32,
    pub on_link: bool,
}

impl Plan {
    pub fn check(request: &ConfigureNetworkRequest) -> Result<Self> {
        if request.interfaces.len() > MOST_DEVICES {
            return Err(Failure::invalid(format!(
                "{} network devices are too many",
                request.interfaces.len()
            )));
        }
        let devices = request
            .interfaces
            .iter()
            .map(DevicePlan::check)
            .collect::<Result<Vec<_>>>()?;
        for (index, device) in devices.iter().enumerate() {
            let twice = |other: &DevicePlan| other.slot == device.slot || other.name == device.name;
            if devices[..index].iter().any(twice) {
                return Err(Failure::invalid(format!("network device {} comes twice", device.name)));
            }
        }
        Ok(Self { devices })
    }
}

impl DevicePlan {
    fn check(interface: &NetworkInterface) -> Result<Self> {
        let NetworkInterface {
            slot,
            name,
            mac,
            mtu,
            addresses,
            routes,
            neighbours,
        } = interface;
        let slot = u8::try_from(*slot).map_err(|_| Failure::invalid(format!("there is no slot {slot}")))?;
        if !is_name(name) {
            return Err(Failure::invalid(format!("{name:?} is no name of a network device")));
        }
        if !(68..=65_535).contains(mtu) {
            return Err(Failure::invalid(format!("{name}: an MTU of {mtu} is not possible")));
        }
        if addresses.len().max(routes.len()).max(neighbours.len()) > MOST_ENTRIES {
            return Err(Failure::invalid(format!(
                "{name}: too many addresses, routes or neighbours"
            )));
        }
        Ok(Self {
            slot,
            name: name.clone(),
            mac: parse_mac(mac)?,
            mtu: *mtu,
            addresses: addresses.iter().map(|text| parse_prefix(text)).collect::<Result<_>>()?,
            routes: routes.iter().map(Route::check).collect::<Result<_>>()?,
            neighbours: neighbours
                .iter()
                .map(|neighbour| Ok((parse_address(&neighbour.address)?, parse_mac(&neighbour.mac)?)))
                .collect::<Result<_>>()?,
        })
    }

    /// What the VMM made the device with.
    pub fn permanent_mac(&self) -> Mac {
        [2, 0, 0, 0, 0, self.slot]
    }
}

impl Route {
    fn check(route: &NetworkRoute) -> Result<Self> {
        let optional = |text: &str| {
            if text.is_empty() {
                Ok(None)
            } else {
                parse_address(text).map(Some)
            }
        };
        let checked = Self {
            destination: parse_prefix(&route.destination)?,
            gateway: optional(&route.gateway)?,
            source: optional(&route.source)?,
            metric: route.metric,
            on_link: route.on_link,
        };
        let family = |address: &IpAddr| address.is_ipv4() == checked.destination.address.is_ipv4();
        if checked.gateway.iter().chain(&checked.source).all(family) {
            Ok(checked)
        } else {
            Err(Failure::invalid(format!(
                "the route to {} mixes IPv4 and IPv6",
                route.destination
            )))
        }
    }
}

/// A name that can be part of a path below /proc/sys and is none of the kernel's own there.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let taken = ["lo", "all", "default", ".", ".."];
    (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(inner) && !taken.contains(&name)
}

fn parse_address(text: &str) -> Result<IpAddr> {
    text.parse()
        .map_err(|_| Failure::invalid(format!("{text:?} is no IP address")))
}

fn parse_prefix(text: &str) -> Result<Prefix> {
    let wrong = || Failure::invalid(format!("{text:?} is no IP address with the length of a prefix"));
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let address = parse_address(address)?;
    let length = length.parse::<u8>().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if length > most {
        return Err(wrong());
    }
    Ok(Prefix { address, length })
}

/// Of one device, not of a group.
fn parse_mac(text: &str) -> Result<Mac> {
    let wrong = || Failure::invalid(format!("{text:?} is no MAC address"));
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let digits = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let part = parts.next().filter(digits).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() || mac[0] & 1 == 1 || mac == [0; 6] {
        return Err(wrong());
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::NetworkNeighbour;

    fn interface() -> NetworkInterface {
        NetworkInterface {
            slot: 0,
            name: "eth0".into(),
            mac: "02:42:ac:11:00:02".into(),
            mtu: 1500,
            addresses: vec!["172.17.0.2/16".into(), "fd00::2/64".into()],
            routes: vec![NetworkRoute {
                destination: "0.0.0.0/0".into(),
                gateway: "172.17.0.1".into(),
                ..NetworkRoute::default()
            }],
            neighbours: vec![NetworkNeighbour {
                address: "172.17.0.1".into(),
                mac: "02:00:00:00:00:01".into(),
            }],
        }
    }

    fn check(change: impl FnOnce(&mut NetworkInterface)) -> Result<Plan> {
        let mut changed = interface();
        change(&mut changed);
        Plan::check(&ConfigureNetworkRequest {
            interfaces: vec![changed],
        })
    }

    #[test]
    fn understands_what_the_host_says() {
        let plan = check(|_| {}).unwrap();
        let device = &plan.devices[0];
        assert_eq!(device.mac, [2, 0x42, 0xac, 0x11, 0, 2]);
        assert_eq!(device.addresses[1].length, 64);
        assert_eq!(device.routes[0].gateway, Some("172.17.0.1".parse().unwrap()));
        assert_eq!(device.permanent_mac(), [2, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        for name in ["", "lo", "all", "..", "a/b", "a b", "sixteen-letters-", "é"] {
            assert!(check(|to| to.name = name.into()).is_err(), "{name:?}");
        }
        for mac in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "03:42:ac:11:00:02",
            "+2:42:ac:11:00:02",
        ] {
            assert!(check(|to| to.mac = mac.into()).is_err(), "{mac:?}");
        }
        for address in ["172.17.0.2", "172.17.0.2/33", "fd00::2/129", "x/8", "172.17.0.2/-1"] {
            assert!(check(|to| to.addresses = vec![address.into()]).is_err(), "{address:?}");
        }
        assert!(check(|to| to.mtu = 0).is_err());
        assert!(check(|to| to.slot = 256).is_err());
        assert!(check(|to| to.routes[0].gateway = "fd00::1".into()).is_err());
        let twice = ConfigureNetworkRequest {
            interfaces: vec![interface(), interface()],
        };
        assert!(Plan::check(&twice).is_err());
    }
}
