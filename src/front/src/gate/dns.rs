//! As much of DNS (RFC 1035) as tells which name is asked for, and which addresses are answered.

use std::net::IpAddr;

const HEADER: usize = 12;
const RESPONSE: u8 = 0x80;
const A: u16 = 1;
const AAAA: u16 = 28;
const NXDOMAIN: u8 = 3;
/// More addresses nobody needs of one name.
const MOST_ANSWERS: usize = 64;
const LONGEST_NAME: usize = 255;

/// What a message asks for.
#[derive(Debug, PartialEq)]
pub struct Question {
    /// Lower case, without the final dot.
    pub name: String,
    pub is_answered: bool,
    /// Where in the message it ends.
    end: usize,
}

/// `None` for what is no message with one question.
pub fn question(message: &[u8]) -> Option<Question> {
    let header: &[u8; HEADER] = message.first_chunk()?;
    if u16::from_be_bytes([header[4], header[5]]) != 1 {
        return None;
    }
    let (mut at, mut labels) = (HEADER, Vec::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // a pointer has nothing to point at yet
        if length > 63 || at + length - HEADER > LONGEST_NAME {
            return None;
        }
        let label = message.get(at..at + length)?;
        if !label.is_ascii() || label.contains(&b'.') {
            return None;
        }
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
    message.get(at..at + 4)?;
    Some(Question {
        name: labels.join("."),
        is_answered: header[2] & RESPONSE != 0,
        end: at + 4,
    })
}

/// The addresses in a message, with how many seconds they hold; those before the first that is damaged.
pub fn addresses(message: &[u8], question: &Question) -> Vec<(IpAddr, u32)> {
    let count = usize::from(u16::from_be_bytes([message[6], message[7]]));
    let mut at = question.end;
    let mut found = Vec::new();
    for _ in 0..count.min(MOST_ANSWERS) {
        let Some(record) = record(message, at) else { break };
        at = record.end;
        found.extend(record.address.map(|address| (address, record.ttl)));
    }
    found
}

struct Record {
    address: Option<IpAddr>,
    ttl: u32,
    end: usize,
}

fn record(message: &[u8], start: usize) -> Option<Record> {
    let fields = after_name(message, start)?;
    let field: &[u8; 10] = message.get(fields..)?.first_chunk()?;
    let kind = u16::from_be_bytes([field[0], field[1]]);
    let length = usize::from(u16::from_be_bytes([field[8], field[9]]));
    let data = message.get(fields + 10..fields + 10 + length)?;
    let address = match kind {
        A => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
        AAAA => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        _ => None,
    };
    Some(Record {
        address,
        ttl: u32::from_be_bytes([field[4], field[5], field[6], field[7]]),
        end: fields + 10 + length,
    })
}

/// Where a name ends: with nothing, or with a pointer to where it goes on.
fn after_name(message: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + length,
        }
    }
}

/// The answer that there is no such name.
pub fn unknown(message: &[u8], question: &Question) -> Vec<u8> {
    let mut answer = message[..question.end].to_vec();
    answer[2] |= RESPONSE;
    // recursion is available
    answer[3] = 0x80 | NXDOMAIN;
    answer[6..HEADER].fill(0);
    answer
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A query for the address of a name.
    pub fn query(name: &str) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.extend([0, 0, 1, 0, 1]);
        message
    }

    /// The answer to it: an alias, and an address of each family.
    pub fn response(name: &str, v4: [u8; 4], ttl: u32) -> Vec<u8> {
        let mut message = query(name);
        message[2] |= RESPONSE;
        message[7] = 3;
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0xc0, 12]);
        message.extend([1, b'x', 0xc0, 12, 0, 1, 0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend([0, 4]);
        message.extend(v4);
        message.extend([0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 7, 0, 16]);
        message.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        message
    }

    #[test]
    fn reads_questions_and_the_addresses_in_answers() {
        let asked = question(&query("Good.Example")).unwrap();
        assert_eq!((asked.name.as_str(), asked.is_answered), ("good.example", false));
        let message = response("good.example", [192, 0, 2, 7], 300);
        let answered = question(&message).unwrap();
        assert!(answered.is_answered);
        let expected = [("192.0.2.7".parse().unwrap(), 300), ("2001:db8::7".parse().unwrap(), 7)];
        assert_eq!(addresses(&message, &answered), expected);
    }

    #[test]
    fn says_that_there_is_no_such_name() {
        let asked = query("bad.example");
        let answer = unknown(&asked, &question(&asked).unwrap());
        assert_eq!(answer[..12], [0x12, 0x34, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answer[12..], asked[12..]);
    }

    #[test]
    fn understands_no_part_of_a_message_and_nothing_damaged() {
        let message = response("good.example", [192, 0, 2, 7], 300);
        let whole = question(&message).unwrap();
        for length in 0..message.len() {
            let part = &message[..length];
            match question(part) {
                None => assert!(length < whole.end),
                Some(found) => assert!(addresses(part, &found).len() < 2),
            }
        }
        let mut pointer = query("a");
        pointer[12] = 0xc0;
        assert_eq!(question(&pointer), None);
        let mut several = query("a");
        several[5] = 2;
        assert_eq!(question(&several), None);
        assert_eq!(question(&query(&["a"; 130].join("."))), None);
        let mut dotted = query("a-b");
        dotted[14] = b'.';
        assert_eq!(question(&dotted), None);
    }
}
