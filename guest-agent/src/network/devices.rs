//! What can be done to a network device, by rtnetlink(7).

use std::net::IpAddr;

use super::netlink::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, Netlink, Request, attribute};
use super::plan::{DevicePlan, Mac, Prefix, Route};
use crate::failure::{Doing, Result};

const IFLA_PERM_ADDRESS: u16 = 54;
const IFA_F_NODAD: u32 = 2;
const IFA_FLAGS: u16 = 8;
const RTNH_F_ONLINK: u32 = 4;
const IFF_UP: u32 = 1;
const NUD_PERMANENT: u16 = 0x80;
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;

/// The index of a device.
pub struct Device(i32);

pub struct Devices(Netlink);

impl Devices {
    pub fn open() -> Result<Self> {
        Netlink::open().map(Self).doing(|| "opening a netlink socket".into())
    }

    pub fn find(&mut self, permanent_mac: Mac) -> Result<Option<Device>> {
        let all = self
            .0
            .request(Request::new(libc::RTM_GETLINK, NLM_F_DUMP, &ifinfomsg(0, 0, 0)))
            .doing(|| "listing the network devices".into())?;
        let found = all
            .iter()
            .find(|link| attribute(link, IFINFOMSG, IFLA_PERM_ADDRESS) == Some(&permanent_mac));
        Ok(found.and_then(|link| Some(Device(i32::from_ne_bytes(*link.get(4..)?.first_chunk()?)))))
    }

    /// Takes it down, and from it every address and with them every route.
    pub fn clear(&mut self, device: &Device) -> Result<()> {
        let doing = || "clearing a network device".to_owned();
        let down = Request::new(libc::RTM_NEWLINK, 0, &ifinfomsg(device.0, 0, IFF_UP));
        self.0.request(down).doing(doing)?;
        let all = Request::new(libc::RTM_GETADDR, NLM_F_DUMP, &[0; IFADDRMSG]);
        for address in self.0.request(all).doing(doing)? {
            let of = address
                .get(4..)
                .and_then(|bytes| bytes.first_chunk())
                .map(|index| i32::from_ne_bytes(*index));
            let Some(local) = attribute(&address, IFADDRMSG, libc::IFA_LOCAL)
                .or_else(|| attribute(&address, IFADDRMSG, libc::IFA_ADDRESS))
            else {
                continue;
            };
            if of == Some(device.0) {
                let delete = Request::new(libc::RTM_DELADDR, 0, &address[..IFADDRMSG]);
                self.0.request(delete.attribute(libc::IFA_LOCAL, local)).doing(doing)?;
            }
        }
        Ok(())
    }

    /// Name, MAC address and MTU of a device that is down.
    pub fn identify(&mut self, device: &Device, plan: &DevicePlan) -> Result<()> {
        let request = Request::new(libc::RTM_NEWLINK, 0, &ifinfomsg(device.0, 0, 0))
            .attribute(libc::IFLA_IFNAME, format!("{}\0", plan.name).as_bytes())
            .attribute(libc::IFLA_ADDRESS, &plan.mac)
            .attribute(libc::IFLA_MTU, &plan.mtu.to_ne_bytes());
        self.0
            .request(request)
            .doing(|| format!("setting name, MAC address and MTU of {}", plan.name))
            .map(drop)
    }

    pub fn bring_up(&mut self, device: &Device, name: &str) -> Result<()> {
        let request = Request::new(libc::RTM_NEWLINK, 0, &ifinfomsg(device.0, IFF_UP, IFF_UP));
        self.0
            .request(request)
            .doing(|| format!("bringing up {name}"))
            .map(drop)
    }

    pub fn add_address(&mut self, device: &Device, Prefix { address, length }: Prefix) -> Result<()> {
        let mut header = [0; IFADDRMSG];
        header[0] = family(address);
        header[1] = length;
        header[4..].copy_from_slice(&device.0.to_ne_bytes());
        let bytes = octets(address);
        let mut request = Request::new(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &header)
            .attribute(libc::IFA_LOCAL, &bytes)
            .attribute(libc::IFA_ADDRESS, &bytes)
            .attribute(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
        if let Some(broadcast) = broadcast(address, length) {
            request = request.attribute(libc::IFA_BROADCAST, &broadcast);
        }
        self.0
            .request(request)
            .doing(|| format!("adding the address {address}/{length}"))
            .map(drop)
    }

    pub fn add_route(&mut self, device: &Device, route: &Route) -> Result<()> {
        let Prefix { address, length } = route.destination;
        let scope = if route.gateway.is_some() {
            libc::RT_SCOPE_UNIVERSE
        } else {
            libc::RT_SCOPE_LINK
        };
        let mut header = [0; 12];
        header[0] = family(address);
        header[1] = length;
        header[4] = libc::RT_TABLE_MAIN;
        header[5] = libc::RTPROT_STATIC;
        header[6] = scope;
        header[7] = libc::RTN_UNICAST;
        if route.on_link {
            header[8..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
        }
        let mut request = Request::new(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header)
            .attribute(libc::RTA_OIF, &device.0.to_ne_bytes());
        if length > 0 {
            request = request.attribute(libc::RTA_DST, &octets(address));
        }
        if let Some(gateway) = route.gateway {
            request = request.attribute(libc::RTA_GATEWAY, &octets(gateway));
        }
        if let Some(source) = route.source {
            request = request.attribute(libc::RTA_PREFSRC, &octets(source));
        }
        if route.metric != 0 {
            request = request.attribute(libc::RTA_PRIORITY, &route.metric.to_ne_bytes());
        }
        self.0
            .request(request)
            .doing(|| format!("adding the route to {address}/{length}"))
            .map(drop)
    }

    pub fn add_neighbour(&mut self, device: &Device, address: IpAddr, mac: Mac) -> Result<()> {
        let mut header = [0; 12];
        header[0] = family(address);
        header[4..8].copy_from_slice(&device.0.to_ne_bytes());
        header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
        let request = Request::new(libc::RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header)
            .attribute(libc::NDA_DST, &octets(address))
            .attribute(libc::NDA_LLADDR, &mac);
        self.0
            .request(request)
            .doing(|| format!("adding the neighbour {address}"))
            .map(drop)
    }
}

fn ifinfomsg(index: i32, flags: u32, change: u32) -> [u8; IFINFOMSG] {
    let mut message = [0; IFINFOMSG];
    message[4..8].copy_from_slice(&index.to_ne_bytes());
    message[8..12].copy_from_slice(&flags.to_ne_bytes());
    message[12..].copy_from_slice(&change.to_ne_bytes());
    message
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The last address of an IPv4 range that has room for one.
fn broadcast(address: IpAddr, length: u8) -> Option<[u8; 4]> {
    match address {
        IpAddr::V4(address) if length < 31 => Some((address.to_bits() | (u32::MAX >> length)).to_be_bytes()),
        _ => None,
    }
}
