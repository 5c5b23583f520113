//! What the kernel command line asks of the agent.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Serial,
    Vsock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub transport: Transport,
    /// `hrun.vsock-loopback=1`: serve vsock as well, and to the guest itself. For tests on hosts without vsock only: any
    /// process of a container is the host then.
    pub vsock_loopback: bool,
    /// `hrun.ready=console`: say so on the console once the agent can serve.
    pub announce: bool,
}

impl Options {
    pub fn parse(cmdline: &str) -> Self {
        let has = |flag: &str| cmdline.split_ascii_whitespace().any(|word| word == flag);
        Self {
            transport: if has("hrun.transport=vsock") {
                Transport::Vsock
            } else {
                Transport::Serial
            },
            vsock_loopback: has("hrun.vsock-loopback=1"),
            announce: has("hrun.ready=console"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_the_serial_port_unless_told_otherwise() {
        let options = Options::parse("console=ttyS0 quiet hrun.ready=consoles hrun.vsock-loopback=10\n");
        let expected = Options {
            transport: Transport::Serial,
            vsock_loopback: false,
            announce: false,
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn takes_each_flag_as_a_whole_word() {
        let options = Options::parse("hrun.transport=vsock hrun.vsock-loopback=1 hrun.ready=console");
        let expected = Options {
            transport: Transport::Vsock,
            vsock_loopback: true,
            announce: true,
        };
        assert_eq!(options, expected);
    }
}
