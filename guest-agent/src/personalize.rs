//! Making this guest distinct from every other: entropy, clock, host name, machine id.

use std::fs;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::contract::PersonalizeRequest;
use crate::failure::{Doing, Failure, Result};
use crate::sys;

const NANOSECONDS: i64 = 1_000_000_000;

/// Gives CLOCK_REALTIME after the step, in nanoseconds.
pub fn personalize(request: &PersonalizeRequest) -> Result<i64> {
    check(request)?;
    let random = rustix::fs::open("/dev/urandom", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .doing(|| "opening the kernel's random generator".into())?;
    sys::add_entropy(random.as_fd(), &request.entropy).doing(|| "adding entropy".into())?;
    let time = Timespec {
        tv_sec: request.realtime_ns.div_euclid(NANOSECONDS),
        tv_nsec: request.realtime_ns.rem_euclid(NANOSECONDS),
    };
    clock_settime(ClockId::Realtime, time).doing(|| "setting the clock".into())?;
    rustix::system::sethostname(request.hostname.as_bytes()).doing(|| "setting the host name".into())?;
    fs::write("/run/machine-id", format!("{}\n", request.machine_id)).doing(|| "writing the machine id".into())?;
    let now = clock_gettime(ClockId::Realtime);
    Ok(now.tv_sec * NANOSECONDS + now.tv_nsec)
}

fn check(request: &PersonalizeRequest) -> Result<()> {
    let PersonalizeRequest {
        entropy,
        realtime_ns,
        hostname,
        machine_id,
    } = request;
    if !(32..=512).contains(&entropy.len()) {
        return Err(Failure::invalid("entropy must be 32 to 512 bytes"));
    }
    if *realtime_ns < 0 {
        return Err(Failure::invalid("the time lies before 1970"));
    }
    // The whole name, as `docker run --hostname` takes it, domain included.
    let label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let edges = !hostname.starts_with(['-', '.']) && !hostname.ends_with(['-', '.']);
    if hostname.is_empty() || hostname.len() > 64 || !hostname.bytes().all(label) || !edges {
        return Err(Failure::invalid(format!("{hostname:?} is no host name")));
    }
    let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if machine_id.len() != 32 || !machine_id.bytes().all(hexadecimal) {
        return Err(Failure::invalid("a machine id is 32 lower-case hexadecimal digits"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> PersonalizeRequest {
        PersonalizeRequest {
            entropy: vec![7; 32],
            realtime_ns: 1,
            hostname: "a-1".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
        }
    }

    #[test]
    fn checks_what_it_is_given() {
        assert!(check(&request()).is_ok());
        assert!(
            check(&PersonalizeRequest {
                hostname: "a.b.c".into(),
                ..request()
            })
            .is_ok()
        );
        assert!(
            check(&PersonalizeRequest {
                entropy: vec![7; 31],
                ..request()
            })
            .is_err()
        );
        assert!(
            check(&PersonalizeRequest {
                realtime_ns: -1,
                ..request()
            })
            .is_err()
        );
        for hostname in ["", "-a", ".a", "a.", "a\nb"] {
            assert!(
                check(&PersonalizeRequest {
                    hostname: hostname.into(),
                    ..request()
                })
                .is_err(),
                "{hostname:?}"
            );
        }
        assert!(
            check(&PersonalizeRequest {
                machine_id: "0123456789ABCDEF0123456789abcdef".into(),
                ..request()
            })
            .is_err()
        );
    }
}
