use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::dns::{addresses, question, unknown};
use super::packet::{IpPacket, Packet, Transport, UDP_HEADER, datagram_of, parse};
use super::reply::reply;

const DNS: u16 = 53;
const UDP: u8 = 17;
/// Where in the header of a datagram it is.
const CHECKSUM: usize = 6;
/// For what was begun with an address that a name meant.
const LONGER: Duration = Duration::from_secs(60);
const LONGEST: u32 = 24 * 3600;
/// Addresses that names meant; one beyond is not reached.
const MOST_ADDRESSES: usize = 4096;

/// A name that a closed guest may look up, and reach what it means, with one port or all.
pub struct Name {
    /// Lower case.
    pub name: String,
    pub port: Option<u16>,
}

/// The names of a closed guest, and what they were found to mean.
#[derive(Default)]
pub struct Names {
    allowed: Vec<Name>,
    /// Whom the guest asks.
    servers: Vec<IpAddr>,
    found: Mutex<HashMap<IpAddr, Vec<Meaning>>>,
}

struct Meaning {
    port: Option<u16>,
    until: Instant,
}

impl Names {
    pub fn new(allowed: Vec<Name>, servers: Vec<IpAddr>) -> Names {
        Names {
            allowed,
            servers,
            found: Mutex::default(),
        }
    }

    /// Whether a packet is for a name server, where only questions pass.
    pub fn is_asked(&self, packet: &IpPacket) -> bool {
        let asked = match packet.transport {
            Transport::Tcp { destination, .. } | Transport::Udp { destination, .. } => destination == DNS,
            _ => false,
        };
        asked && self.servers.contains(&packet.destination)
    }

    /// Whether a packet for a name server asks for an allowed name. Over a stream nothing is asked.
    pub fn may_ask(&self, frame: &[u8], packet: &IpPacket) -> bool {
        let asked = datagram_of(frame, packet).and_then(question);
        asked.is_some_and(|asked| !asked.is_answered && self.has(&asked.name))
    }

    /// The answer, after its length, to a question for another name: it would be waited for.
    pub fn refusal(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let Packet::Ip(packet) = parse(frame)? else { return None };
        if !self.is_asked(&packet) {
            return None;
        }
        let Transport::Udp { source, destination } = packet.transport else {
            return None;
        };
        let message = datagram_of(frame, &packet)?;
        let asked = question(message).filter(|asked| !asked.is_answered)?;
        let answer = unknown(message, &asked);
        let length = (UDP_HEADER + answer.len()) as u16;
        let header = [destination, source, length, 0].map(u16::to_be_bytes).concat();
        Some(reply(frame, &packet, UDP, [header, answer].concat(), CHECKSUM))
    }

    /// Remembers what an answer to the guest says of an allowed name. `never` tells addresses that no name opens.
    pub fn learn(&self, frame: &[u8], packet: &IpPacket, never: impl Fn(IpAddr) -> bool) {
        let Transport::Udp { source: DNS, .. } = packet.transport else {
            return;
        };
        if !self.servers.contains(&packet.source) {
            return;
        }
        let Some(message) = datagram_of(frame, packet) else {
            return;
        };
        let Some(asked) = question(message).filter(|asked| asked.is_answered && self.has(&asked.name)) else {
            return;
        };
        let now = Instant::now();
        let mut found = self.found.lock().expect("no thread of the gate panics");
        for (address, ttl) in addresses(message, &asked) {
            if found.len() >= MOST_ADDRESSES {
                found.retain(|_, meanings| meanings.iter().any(|meaning| meaning.until > now));
            }
            if never(address) || found.len() >= MOST_ADDRESSES {
                continue;
            }
            let until = now + Duration::from_secs(ttl.min(LONGEST).into()) + LONGER;
            let ports = self.allowed.iter().filter(|one| one.name == asked.name);
            let meanings = found.entry(address).or_default();
            for Name { port, .. } in ports {
                meanings.retain(|known| known.port != *port || known.until > until);
                meanings.push(Meaning { port: *port, until });
            }
        }
    }

    /// Whether an allowed name means where a packet goes.
    pub fn open(&self, packet: &IpPacket) -> bool {
        let port = match packet.transport {
            Transport::Tcp { destination, .. } | Transport::Udp { destination, .. } => Some(destination),
            _ => None,
        };
        let found = self.found.lock().expect("no thread of the gate panics");
        let meanings = found.get(&packet.destination);
        meanings.is_some_and(|meanings| {
            let now = Instant::now();
            meanings
                .iter()
                .any(|meaning| meaning.until > now && (meaning.port.is_none() || meaning.port == port))
        })
    }

    fn has(&self, name: &str) -> bool {
        self.allowed.iter().any(|one| one.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::dns::tests::{query, response};
    use super::super::packet::ETHERNET;
    use super::super::packet::tests::{datagram, ipv4_frame, ipv6_frame, tcp};
    use super::super::policy::Policy;
    use super::super::reply::checksum;
    use super::*;

    const GUEST: [u8; 4] = [10, 0, 2, 15];
    const SERVER: [u8; 4] = [10, 0, 2, 3];
    const GOOD: [u8; 4] = [192, 0, 2, 7];
    const SYN: u8 = 2;

    fn policy() -> Policy {
        let allowed = vec![Name {
            name: "good.example".to_owned(),
            port: Some(443),
        }];
        let servers = vec![SERVER.into(), "fd00:2::3".parse().unwrap()];
        Policy::closed(Vec::new(), Names::new(allowed, servers))
    }

    fn asks(name: &str) -> Vec<u8> {
        ipv4_frame(17, GUEST, SERVER, &datagram(40_000, 53, &query(name)))
    }

    fn answers(name: &str, from: [u8; 4], address: [u8; 4]) -> Vec<u8> {
        ipv4_frame(17, from, GUEST, &datagram(53, 40_000, &response(name, address, 300)))
    }

    fn opens(to: [u8; 4], port: u16) -> Vec<u8> {
        ipv4_frame(6, GUEST, to, &tcp(port, SYN))
    }

    #[test]
    fn an_allowed_name_opens_what_it_means_once_it_was_answered() {
        let policy = policy();
        assert!(!policy.lets_out(&opens(GOOD, 443)));
        assert!(policy.lets_out(&asks("good.example")) && policy.lets_out(&asks("GOOD.example")));
        policy.saw_coming(&answers("good.example", SERVER, GOOD));
        assert!(policy.lets_out(&opens(GOOD, 443)));
        assert!(!policy.lets_out(&opens(GOOD, 80)));
        let guest = "fd00:2::15".parse().unwrap();
        let six = ipv6_frame(6, guest, "2001:db8::7".parse().unwrap(), &tcp(443, SYN));
        assert!(policy.lets_out(&six));
    }

    #[test]
    fn no_other_name_is_asked_for_not_even_as_an_answer() {
        let policy = policy();
        policy.saw_coming(&answers("good.example", SERVER, GOOD));
        assert!(!policy.lets_out(&asks("bad.example")));
        assert!(!policy.lets_out(&asks("a.good.example")));
        assert!(!policy.lets_out(&ipv4_frame(17, GUEST, SERVER, &datagram(40_000, 53, b"no question"))));
        assert!(!policy.lets_out(&opens(SERVER, 53)));
    }

    #[test]
    fn nobody_else_says_what_a_name_means_and_none_means_metadata_or_the_host() {
        let policy = policy();
        policy.saw_coming(&answers("good.example", [203, 0, 113, 5], GOOD));
        policy.saw_coming(&answers("bad.example", SERVER, GOOD));
        let asked = ipv4_frame(17, SERVER, GUEST, &datagram(53, 40_000, &query("good.example")));
        policy.saw_coming(&asked);
        assert!(!policy.lets_out(&opens(GOOD, 443)));
        for never in [[169, 254, 169, 254], [127, 0, 0, 1], [0, 0, 0, 0]] {
            policy.saw_coming(&answers("good.example", SERVER, never));
            assert!(!policy.lets_out(&opens(never, 443)), "{never:?}");
        }
    }

    #[test]
    fn a_refused_question_is_answered() {
        let policy = policy();
        let answer = policy.refusal(&asks("bad.example")).unwrap();
        assert_eq!(answer[..4], ((answer.len() - 4) as u32).to_be_bytes());
        let Some(Packet::Ip(packet)) = parse(&answer[4..]) else {
            panic!()
        };
        assert_eq!([packet.source, packet.destination], [SERVER, GUEST].map(IpAddr::from));
        let said = question(datagram_of(&answer[4..], &packet).unwrap()).unwrap();
        assert!(said.is_answered && said.name == "bad.example");
        let ip = &answer[4 + ETHERNET..];
        let length = [ip[24], ip[25]];
        assert_eq!(checksum(&[&ip[12..20], &[0, 17], &length, &ip[20..]]), 0);
        assert!(policy.refusal(&opens(SERVER, 53)).is_none());
        assert!(policy.refusal(&answers("bad.example", GUEST, GOOD)).is_none());
        assert!(Policy::open().refusal(&asks("bad.example")).is_none());
    }
}
