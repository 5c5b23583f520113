use super::packet::{ETHERNET, SYN_ACK, tcp_of};

const ACK: u8 = 0x10;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const TCP: u8 = 6;
/// As little as lets a server say its first words, whatever scale passt has asked for: passt tells its own window then.
const WINDOW: u16 = 512;

/// The third segment of a handshake, for the guest that has just sent the second. passt of 2023 sends it only together with
/// the first data, so that no server that speaks first would ever be heard; a second one does not matter. Its frame,
/// after its length.
pub fn acknowledgement(frame: &[u8]) -> Option<Vec<u8>> {
    let (ip, tcp) = tcp_of(frame)?;
    if tcp[13] & SYN_ACK != SYN_ACK {
        return None;
    }
    let mut segment = [0; TCP_HEADER];
    segment[0..2].copy_from_slice(&tcp[2..4]);
    segment[2..4].copy_from_slice(&tcp[0..2]);
    segment[4..8].copy_from_slice(&tcp[8..12]);
    let next = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(1);
    segment[8..12].copy_from_slice(&next.to_be_bytes());
    segment[12] = (TCP_HEADER as u8 / 4) << 4;
    segment[13] = ACK;
    segment[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    let packet = if ip[0] >> 4 == 4 {
        ipv4(ip, segment)
    } else {
        ipv6(ip, segment)
    };
    let length = (ETHERNET + packet.len()) as u32;
    let [to, from, kind] = [&frame[0..6], &frame[6..12], &frame[12..ETHERNET]];
    Some([&length.to_be_bytes(), from, to, kind, &packet].concat())
}

fn ipv4(of: &[u8], mut segment: [u8; TCP_HEADER]) -> Vec<u8> {
    let mut header = [0; IPV4_HEADER];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((IPV4_HEADER + TCP_HEADER) as u16).to_be_bytes());
    header[6] = 0x40;
    header[8..10].copy_from_slice(&[64, TCP]);
    header[12..16].copy_from_slice(&of[16..20]);
    header[16..20].copy_from_slice(&of[12..16]);
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let sum = checksum(&[&header[12..20], &[0, TCP, 0, TCP_HEADER as u8], &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    [&header[..], &segment].concat()
}

fn ipv6(of: &[u8], mut segment: [u8; TCP_HEADER]) -> Vec<u8> {
    let mut header = [0; IPV6_HEADER];
    header[0] = 0x60;
    header[4..8].copy_from_slice(&[0, TCP_HEADER as u8, TCP, 64]);
    header[8..24].copy_from_slice(&of[24..40]);
    header[24..40].copy_from_slice(&of[8..24]);
    let sum = checksum(&[&header[8..40], &[0, TCP_HEADER as u8, 0, TCP], &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    [&header[..], &segment].concat()
}

/// RFC 1071, over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::{ipv4_frame, ipv6_frame, tcp};
    use super::*;

    fn syn_ack() -> Vec<u8> {
        let mut segment = tcp(40_000, 0x12);
        segment[0..2].copy_from_slice(&22_u16.to_be_bytes());
        segment[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        segment[8..12].copy_from_slice(&7_u32.to_be_bytes());
        segment
    }

    #[test]
    fn answers_the_second_segment_of_a_handshake_with_the_third() {
        let mut frame = ipv4_frame(TCP, [10, 0, 2, 15], [192, 0, 2, 1], &syn_ack());
        frame[0..12].copy_from_slice(&[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
        let answer = acknowledgement(&frame).unwrap();
        assert_eq!(answer[..4], 54_u32.to_be_bytes());
        assert_eq!(answer[4..16], [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]);
        let packet = &answer[4 + ETHERNET..];
        assert_eq!(packet[12..20], [192, 0, 2, 1, 10, 0, 2, 15]);
        assert_eq!(checksum(&[&packet[..20]]), 0);
        assert_eq!(checksum(&[&packet[12..20], &[0, 6, 0, 20], &packet[20..]]), 0);
        assert_eq!(packet[20..24], [0x9c, 0x40, 0, 22]);
        assert_eq!(packet[24..28], 7_u32.to_be_bytes());
        assert_eq!(packet[28..32], 0_u32.to_be_bytes());
        assert_eq!(packet[33], ACK);
    }

    #[test]
    fn does_so_with_ipv6_too() {
        let [guest, peer] = ["fd00:2::15", "2001:db8::1"].map(|text| text.parse().unwrap());
        let answer = acknowledgement(&ipv6_frame(TCP, guest, peer, &syn_ack())).unwrap();
        let packet = &answer[4 + ETHERNET..];
        assert_eq!(
            (packet[8..24].to_vec(), packet[24..40].to_vec()),
            (peer.octets().to_vec(), guest.octets().to_vec())
        );
        assert_eq!(checksum(&[&packet[8..40], &[0, 20, 0, 6], &packet[40..]]), 0);
    }

    #[test]
    fn answers_nothing_else() {
        for flags in [0x02, 0x10, 0x11, 0x04] {
            assert!(acknowledgement(&ipv4_frame(TCP, [1; 4], [2; 4], &tcp(80, flags))).is_none());
        }
        let whole = ipv4_frame(TCP, [1; 4], [2; 4], &syn_ack());
        for length in 0..whole.len() {
            assert!(acknowledgement(&whole[..length]).is_none(), "{length}");
        }
        assert!(acknowledgement(&ipv4_frame(17, [1; 4], [2; 4], &syn_ack())).is_none());
    }
}
