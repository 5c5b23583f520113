use std::net::IpAddr;

use super::packet::{ETHERNET, IpPacket};

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// A frame, after its length, that goes back to who sent `frame`: `segment` with everything but the checksum of its
/// transport, which lies at `sum_at`.
pub fn reply(frame: &[u8], packet: &IpPacket, protocol: u8, mut segment: Vec<u8>, sum_at: usize) -> Vec<u8> {
    let length = segment.len() as u16;
    let header = match (packet.destination, packet.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let addresses = [from.octets(), to.octets()].concat();
            let sum = checksum(&[&addresses, &[0, protocol], &length.to_be_bytes(), &segment]);
            segment[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
            ipv4(protocol, length, &addresses)
        }
        (from, to) => {
            let addresses = [octets(from), octets(to)].concat();
            let sum = checksum(&[&addresses, &length.to_be_bytes(), &[0, protocol], &segment]);
            segment[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
            let mut header = vec![0; 8];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&length.to_be_bytes());
            header[6..8].copy_from_slice(&[protocol, 64]);
            debug_assert_eq!(header.len() + addresses.len(), IPV6_HEADER);
            [header, addresses].concat()
        }
    };
    let whole = (ETHERNET + header.len() + segment.len()) as u32;
    let [to, from, kind] = [&frame[0..6], &frame[6..12], &frame[12..ETHERNET]];
    [&whole.to_be_bytes(), from, to, kind, &header, &segment].concat()
}

fn ipv4(protocol: u8, length: u16, addresses: &[u8]) -> Vec<u8> {
    let mut header = vec![0; IPV4_HEADER];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(IPV4_HEADER as u16 + length).to_be_bytes());
    header[6] = 0x40;
    header[8..10].copy_from_slice(&[64, protocol]);
    header[12..20].copy_from_slice(addresses);
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// RFC 1071, over parts of which only the last may be of odd length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
