//! What the kernel command line asks of the agent.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Serial,
    Vsock {
        /// Accept the guest's own address as well: for tests over vsock loopback.
        loopback: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub transport: Transport,
    /// `hrun.ready=console`: say so on the console once the agent can serve.
    pub announce: bool,
}

impl Options {
    pub fn parse(cmdline: &str) -> Self {
        let has = |flag: &str| cmdline.split_ascii_whitespace().any(|word| word == flag);
        let transport = if has("hrun.transport=vsock") {
            Transport::Vsock {
                loopback: has("hrun.vsock-loopback=1"),
            }
        } else {
            Transport::Serial
        };
        Self {
            transport,
            announce: has("hrun.ready=console"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_the_serial_port_unless_told_otherwise() {
        let options = Options::parse("console=ttyS0 quiet hrun.ready=consoles\n");
        assert_eq!(
            options,
            Options {
                transport: Transport::Serial,
                announce: false
            }
        );
    }

    #[test]
    fn takes_the_loopback_only_together_with_vsock() {
        let options = Options::parse("hrun.transport=vsock hrun.vsock-loopback=1 hrun.ready=console");
        assert_eq!(
            options,
            Options {
                transport: Transport::Vsock { loopback: true },
                announce: true
            }
        );
        assert_eq!(Options::parse("hrun.vsock-loopback=1").transport, Transport::Serial);
    }
}
