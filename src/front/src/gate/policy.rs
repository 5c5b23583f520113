use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::names::Names;
use super::packet::{IpPacket, Packet, Transport, parse};

/// How long a guest may answer somebody who sent it a datagram.
const ANSWER_WITHIN: Duration = Duration::from_secs(180);
/// Those who sent datagrams; the ones of longest ago are forgotten when there are more.
const MOST_PEERS: usize = 4096;

/// What passt would take for the host itself, from the inside.
const OF_THE_HOST: &[(IpAddr, u8)] = &[
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 127),
    (IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), 96),
];
/// Where clouds keep what only the host itself should know.
const METADATA: &[(IpAddr, u8)] = &[
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)), 128),
];
/// Of neighbour discovery.
const ON_THE_LINK: &[(IpAddr, u8)] = &[
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0)), 16),
];

/// Addresses that a guest may begin to talk to, with one port or all.
pub struct Range {
    base: IpAddr,
    length: u8,
    port: Option<u16>,
}

impl Range {
    pub fn new(base: IpAddr, length: u8, port: Option<u16>) -> Option<Range> {
        let most = if base.is_ipv4() { 32 } else { 128 };
        (length <= most).then_some(Range { base, length, port })
    }

    fn holds(&self, packet: &IpPacket) -> bool {
        let port = match packet.transport {
            Transport::Tcp { destination, .. } | Transport::Udp { destination, .. } => Some(destination),
            _ => None,
        };
        within(packet.destination, self.base, self.length) && (self.port.is_none() || self.port == port)
    }
}

/// Which of a guest's frames pass. Connections are passt's to know: it answers a segment of none with a reset.
pub struct Policy {
    /// `None`: everything but what nobody may without being allowed it.
    allowed: Option<Vec<Range>>,
    /// Of a closed guest.
    names: Names,
    /// Who sent datagrams to which port of the guest, and when last.
    peers: Mutex<HashMap<(SocketAddr, u16), Instant>>,
}

impl Policy {
    pub fn open() -> Policy {
        Policy {
            allowed: None,
            names: Names::default(),
            peers: Mutex::default(),
        }
    }

    pub fn closed(allowed: Vec<Range>, names: Names) -> Policy {
        Policy {
            allowed: Some(allowed),
            names,
            peers: Mutex::default(),
        }
    }

    /// Whether a frame of the guest passes.
    pub fn lets_out(&self, frame: &[u8]) -> bool {
        match parse(frame) {
            None => false,
            Some(Packet::Arp) => true,
            Some(Packet::Ip(packet)) => self.lets_packet_out(frame, &packet),
        }
    }

    fn lets_packet_out(&self, frame: &[u8], packet: &IpPacket) -> bool {
        let to = |ranges: &[(IpAddr, u8)]| is_in(packet.destination, ranges);
        if to(OF_THE_HOST) {
            return false;
        }
        if packet.transport == Transport::Icmpv6 && to(ON_THE_LINK) {
            return true;
        }
        match &self.allowed {
            None => !to(METADATA),
            Some(allowed) if allowed.iter().any(|range| range.holds(packet)) => true,
            // what one asks is no answer to what it has answered
            Some(_) if self.names.is_asked(packet) => self.names.may_ask(frame, packet),
            Some(_) => self.names.open(packet) || self.is_answer(packet),
        }
    }

    /// What a guest is told, after its length, instead of a frame that does not pass.
    pub fn refusal(&self, frame: &[u8]) -> Option<Vec<u8>> {
        self.names.refusal(frame)
    }

    fn is_answer(&self, packet: &IpPacket) -> bool {
        match packet.transport {
            Transport::Tcp { opens, .. } => !opens,
            Transport::Udp { source, destination } => {
                let peer = (SocketAddr::new(packet.destination, destination), source);
                let peers = self.peers.lock().expect("no thread of the gate panics");
                peers.get(&peer).is_some_and(|seen| seen.elapsed() < ANSWER_WITHIN)
            }
            _ => false,
        }
    }

    /// Remembers who sent a datagram to the guest, and what it says of names.
    pub fn saw_coming(&self, frame: &[u8]) {
        if self.allowed.is_none() {
            return;
        }
        let Some(Packet::Ip(packet)) = parse(frame) else { return };
        let Transport::Udp { source, destination } = packet.transport else {
            return;
        };
        let never = |address| is_in(address, OF_THE_HOST) || is_in(address, METADATA);
        self.names.learn(frame, &packet, never);
        let mut peers = self.peers.lock().expect("no thread of the gate panics");
        if peers.len() >= MOST_PEERS {
            let middle = middle_of(peers.values().copied().collect());
            peers.retain(|_, seen| *seen > middle);
        }
        peers.insert((SocketAddr::new(packet.source, source), destination), Instant::now());
    }
}

fn middle_of(mut times: Vec<Instant>) -> Instant {
    times.sort_unstable();
    times[times.len() / 2]
}

fn is_in(address: IpAddr, ranges: &[(IpAddr, u8)]) -> bool {
    ranges.iter().any(|&(base, length)| within(address, base, length))
}

fn within(address: IpAddr, base: IpAddr, length: u8) -> bool {
    let (address, base, bits) = match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) => (address.to_bits().into(), base.to_bits().into(), 32),
        (IpAddr::V6(address), IpAddr::V6(base)) => (address.to_bits(), base.to_bits(), 128),
        _ => return false,
    };
    let differing: u128 = address ^ base;
    differing.checked_shr(bits - u32::from(length)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::{ipv4_frame, ipv6_frame, tcp, udp};
    use super::*;

    const GUEST: [u8; 4] = [10, 0, 2, 15];
    const SYN: u8 = 2;
    const ACK: u8 = 16;

    fn range(text: &str, length: u8, port: Option<u16>) -> Range {
        Range::new(text.parse().unwrap(), length, port).unwrap()
    }

    fn opening(to: [u8; 4], port: u16) -> Vec<u8> {
        ipv4_frame(6, GUEST, to, &tcp(port, SYN))
    }

    #[test]
    fn an_open_guest_reaches_all_but_the_host_from_inside_and_metadata() {
        let policy = Policy::open();
        assert!(policy.lets_out(&opening([192, 0, 2, 1], 80)));
        for closed in [[127, 0, 0, 1], [127, 9, 9, 9], [0, 0, 0, 0], [169, 254, 169, 254]] {
            assert!(!policy.lets_out(&opening(closed, 80)), "{closed:?}");
            assert!(
                !policy.lets_out(&ipv4_frame(17, GUEST, closed, &udp(9, 53))),
                "{closed:?}"
            );
            assert!(
                !policy.lets_out(&ipv4_frame(6, GUEST, closed, &tcp(80, ACK))),
                "{closed:?}"
            );
        }
        let guest: Ipv6Addr = "fd00:1::2".parse().unwrap();
        for (to, passes) in [
            ("2001:db8::1", true),
            ("::1", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("fd00:ec2::254", false),
        ] {
            let frame = ipv6_frame(6, guest, to.parse().unwrap(), &tcp(80, SYN));
            assert_eq!(policy.lets_out(&frame), passes, "{to}");
        }
    }

    #[test]
    fn a_closed_guest_begins_only_what_is_on_its_list() {
        let ranges = vec![range("192.0.2.0", 24, Some(443)), range("169.254.169.254", 32, None)];
        let policy = Policy::closed(ranges, Names::default());
        assert!(policy.lets_out(&opening([192, 0, 2, 9], 443)));
        assert!(policy.lets_out(&opening([169, 254, 169, 254], 80)));
        assert!(!policy.lets_out(&opening([192, 0, 2, 9], 80)));
        assert!(!policy.lets_out(&opening([192, 0, 3, 9], 443)));
        assert!(!policy.lets_out(&ipv4_frame(1, GUEST, [192, 0, 2, 9], &[8, 0])));
        let mut fragment = opening([192, 0, 2, 9], 443);
        fragment[21] = 1;
        assert!(!policy.lets_out(&fragment));
        let none = Policy::closed(Vec::new(), Names::default());
        assert!(!none.lets_out(&opening([192, 0, 2, 9], 443)));
        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&[8, 6]);
        assert!(none.lets_out(&arp));
    }

    #[test]
    fn a_closed_guest_answers_those_who_spoke_to_it() {
        let policy = Policy::closed(Vec::new(), Names::default());
        let peer = [203, 0, 113, 5];
        assert!(policy.lets_out(&ipv4_frame(6, GUEST, peer, &tcp(5000, SYN | ACK))));
        let answer = ipv4_frame(17, GUEST, peer, &udp(53, 5000));
        assert!(!policy.lets_out(&answer));
        policy.saw_coming(&ipv4_frame(17, peer, GUEST, &udp(5000, 53)));
        assert!(policy.lets_out(&answer));
        assert!(!policy.lets_out(&ipv4_frame(17, GUEST, peer, &udp(54, 5000))));
        assert!(!policy.lets_out(&ipv4_frame(17, GUEST, peer, &udp(53, 5001))));
    }

    #[test]
    fn remembers_only_so_many() {
        let policy = Policy::closed(Vec::new(), Names::default());
        for port in 0..=u16::try_from(MOST_PEERS).unwrap() {
            policy.saw_coming(&ipv4_frame(17, [203, 0, 113, 5], GUEST, &udp(port, 53)));
        }
        let known = policy.peers.lock().unwrap().len();
        assert!(known <= MOST_PEERS && known > 1, "{known}");
        assert!(policy.lets_out(&ipv4_frame(
            17,
            GUEST,
            [203, 0, 113, 5],
            &udp(53, u16::try_from(MOST_PEERS).unwrap())
        )));
    }
}
