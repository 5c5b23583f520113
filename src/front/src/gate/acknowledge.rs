use super::packet::{Packet, SYN_ACK, parse, tcp_of};
use super::reply::reply;

const ACK: u8 = 0x10;
const TCP_HEADER: usize = 20;
/// Where in the header it is.
const CHECKSUM: usize = 16;
const TCP: u8 = 6;
/// As little as lets a server say its first words, whatever scale passt has asked for: passt tells its own window then.
const WINDOW: u16 = 512;

/// The third segment of a handshake, for the guest that has just sent the second. passt of 2023 sends it only together with
/// the first data, so that no server that speaks first would ever be heard; a second one does not matter. Its frame,
/// after its length.
pub fn acknowledgement(frame: &[u8]) -> Option<Vec<u8>> {
    let tcp = tcp_of(frame)?;
    if tcp[13] & SYN_ACK != SYN_ACK {
        return None;
    }
    let Packet::Ip(packet) = parse(frame)? else { return None };
    let mut segment = [0; TCP_HEADER];
    segment[0..2].copy_from_slice(&tcp[2..4]);
    segment[2..4].copy_from_slice(&tcp[0..2]);
    segment[4..8].copy_from_slice(&tcp[8..12]);
    let next = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(1);
    segment[8..12].copy_from_slice(&next.to_be_bytes());
    segment[12] = (TCP_HEADER as u8 / 4) << 4;
    segment[13] = ACK;
    segment[14..16].copy_from_slice(&WINDOW.to_be_bytes());
    Some(reply(frame, &packet, TCP, segment.to_vec(), CHECKSUM))
}

#[cfg(test)]
mod tests {
    use super::super::packet::ETHERNET;
    use super::super::packet::tests::{ipv4_frame, ipv6_frame, tcp};
    use super::super::reply::checksum;
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
