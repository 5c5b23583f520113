use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
pub const UDP_HEADER: usize = 8;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
pub const SYN_ACK: u8 = SYN | ACK;

/// What the gate understands of an Ethernet frame.
#[derive(Debug, PartialEq)]
pub enum Packet {
    Arp,
    Ip(IpPacket),
}

#[derive(Debug, PartialEq)]
pub struct IpPacket {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub transport: Transport,
}

#[derive(Debug, PartialEq)]
pub enum Transport {
    Tcp {
        destination: u16,
        opens: bool,
    },
    Udp {
        source: u16,
        destination: u16,
    },
    Icmpv6,
    /// Others, and what comes in fragments or after extension headers.
    Other,
}

/// `None` for what is neither ARP nor a sound packet of IP.
pub fn parse(frame: &[u8]) -> Option<Packet> {
    let body = frame.get(ETHERNET..)?;
    match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0806 => Some(Packet::Arp),
        0x0800 => ipv4(body).map(Packet::Ip),
        0x86dd => ipv6(body).map(Packet::Ip),
        _ => None,
    }
}

/// The header of the TCP segment in a frame, where there is a whole one.
pub fn tcp_of(frame: &[u8]) -> Option<&[u8; 20]> {
    let Packet::Ip(packet) = parse(frame)? else {
        return None;
    };
    let Transport::Tcp { .. } = packet.transport else {
        return None;
    };
    segment_of(frame, &packet)?.first_chunk()
}

/// What a datagram carries.
pub fn datagram_of<'a>(frame: &'a [u8], packet: &IpPacket) -> Option<&'a [u8]> {
    let Transport::Udp { .. } = packet.transport else {
        return None;
    };
    let segment = segment_of(frame, packet)?;
    let length = usize::from(u16::from_be_bytes([*segment.get(4)?, *segment.get(5)?]));
    segment.get(UDP_HEADER..length)
}

fn segment_of<'a>(frame: &'a [u8], packet: &IpPacket) -> Option<&'a [u8]> {
    let body = frame.get(ETHERNET..)?;
    let header = match packet.source {
        IpAddr::V4(_) => usize::from(body[0] & 0x0f) * 4,
        IpAddr::V6(_) => 40,
    };
    body.get(header..)
}

fn ipv4(body: &[u8]) -> Option<IpPacket> {
    let header: &[u8; 20] = body.first_chunk()?;
    let words = usize::from(header[0] & 0x0f);
    if header[0] >> 4 != 4 || words < 5 {
        return None;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let inner = body.get(words * 4..)?;
    Some(IpPacket {
        source: IpAddr::V4(Ipv4Addr::from(address::<4>(header, 12))),
        destination: IpAddr::V4(Ipv4Addr::from(address::<4>(header, 16))),
        transport: if fragment {
            Transport::Other
        } else {
            transport(header[9], inner)
        },
    })
}

fn ipv6(body: &[u8]) -> Option<IpPacket> {
    let header: &[u8; 40] = body.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    Some(IpPacket {
        source: IpAddr::V6(Ipv6Addr::from(address::<16>(header, 8))),
        destination: IpAddr::V6(Ipv6Addr::from(address::<16>(header, 24))),
        transport: transport(header[6], &body[40..]),
    })
}

fn address<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|index| header[at + index])
}

fn transport(protocol: u8, inner: &[u8]) -> Transport {
    let port = |at: usize| {
        inner
            .get(at..at + 2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    match (protocol, port(0), port(2), inner.get(13)) {
        (TCP, _, Some(destination), Some(flags)) => Transport::Tcp {
            destination,
            opens: flags & SYN_ACK == SYN,
        },
        (UDP, Some(source), Some(destination), _) => Transport::Udp { source, destination },
        (ICMPV6, ..) => Transport::Icmpv6,
        _ => Transport::Other,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A frame with an IPv4 packet.
    pub fn ipv4_frame(protocol: u8, source: [u8; 4], destination: [u8; 4], inner: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend(source);
        frame.extend(destination);
        frame.extend(inner);
        frame
    }

    pub fn ipv6_frame(protocol: u8, source: Ipv6Addr, destination: Ipv6Addr, inner: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, protocol, 64]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(inner);
        frame
    }

    pub fn tcp(destination: u16, flags: u8) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[2..4].copy_from_slice(&destination.to_be_bytes());
        segment[13] = flags;
        segment
    }

    pub fn udp(source: u16, destination: u16) -> Vec<u8> {
        datagram(source, destination, &[])
    }

    pub fn datagram(source: u16, destination: u16, data: &[u8]) -> Vec<u8> {
        let length = (UDP_HEADER + data.len()) as u16;
        let header = [source, destination, length, 0].map(u16::to_be_bytes).concat();
        [&header, data].concat()
    }

    #[test]
    fn reads_what_a_policy_asks_for() {
        let opening = parse(&ipv4_frame(TCP, [10, 0, 2, 15], [192, 0, 2, 1], &tcp(80, SYN)));
        let expected = IpPacket {
            source: Ipv4Addr::new(10, 0, 2, 15).into(),
            destination: Ipv4Addr::new(192, 0, 2, 1).into(),
            transport: Transport::Tcp {
                destination: 80,
                opens: true,
            },
        };
        assert_eq!(opening, Some(Packet::Ip(expected)));
        let Some(Packet::Ip(packet)) = parse(&ipv6_frame(UDP, Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED, &udp(5, 6)))
        else {
            panic!()
        };
        assert_eq!(
            packet.transport,
            Transport::Udp {
                source: 5,
                destination: 6
            }
        );
    }

    #[test]
    fn takes_fragments_for_nothing_in_particular_and_nonsense_for_nothing() {
        let mut fragment = ipv4_frame(TCP, [1; 4], [2; 4], &tcp(80, SYN));
        fragment[20] = 0x20;
        let Some(Packet::Ip(packet)) = parse(&fragment) else {
            panic!()
        };
        assert_eq!(packet.transport, Transport::Other);
        for length in 0..34 {
            assert_eq!(parse(&fragment[..length]), None, "{length} bytes");
        }
        let mut tagged = fragment.clone();
        tagged[12..14].copy_from_slice(&[0x81, 0]);
        assert_eq!(parse(&tagged), None);
        let mut short_header = fragment;
        short_header[14] = 0x44;
        assert_eq!(parse(&short_header), None);
    }
}
