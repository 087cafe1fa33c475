//! [`Port`]: a container's port on the host.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

/// A port of the container that is published on the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    pub(crate) container: u16,
    pub(crate) protocol: &'static str,
    pub(crate) host: HostPort,
    pub(crate) address: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostPort {
    Any,
    Fixed(u16),
    Range(u16, u16),
}

impl Port {
    /// A TCP port, on `127.0.0.1`, on a host port that the engine chooses.
    pub fn tcp(container: u16) -> Self {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self { container, protocol: "tcp", host: HostPort::Any, address }
    }

    /// As [`tcp`](Port::tcp), for UDP.
    pub fn udp(container: u16) -> Self {
        Self { protocol: "udp", ..Self::tcp(container) }
    }

    /// On exactly this host port: one container at a time.
    pub fn on(mut self, host: u16) -> Self {
        self.host = HostPort::Fixed(host);
        self
    }

    /// On a host port of this range, another one for each container. One that somebody else uses
    /// is passed over.
    pub fn in_range(mut self, host: RangeInclusive<u16>) -> Self {
        self.host = HostPort::Range(*host.start(), *host.end());
        self
    }

    /// On another address of the host. `0.0.0.0` makes it reachable from everywhere.
    pub fn at(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// The engine's name of it.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.container, self.protocol)
    }

    /// The host port to ask the engine for; empty lets it choose. `turn` walks through a range.
    pub(crate) fn wanted(&self, turn: u32) -> String {
        match self.host {
            HostPort::Any => String::new(),
            HostPort::Fixed(port) => port.to_string(),
            HostPort::Range(first, _) => (u32::from(first) + turn % self.choices()).to_string(),
        }
    }

    /// How many host ports there are to try.
    pub(crate) fn choices(&self) -> u32 {
        match self.host {
            HostPort::Any => 3,
            HostPort::Fixed(_) => 1,
            HostPort::Range(first, last) => u32::from(last.saturating_sub(first)) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_gives_each_of_its_ports_in_turn() {
        let port = Port::tcp(80).in_range(9000..=9002);
        let all: Vec<String> = (0..4).map(|turn| port.wanted(turn)).collect();
        assert_eq!(all, ["9000", "9001", "9002", "9000"]);
        assert_eq!(port.choices(), 3);
    }
}
