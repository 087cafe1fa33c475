//! [`Profile`]: what a sandbox is made from, in words that every backend understands.

use std::path::PathBuf;

use crate::limit::Network;
use crate::limits::Limits;

/// What a sandbox or container is made from. Each backend makes its own key from it.
///
/// One profile can serve several backends: those that share the host's file system take
/// [`base`](Self::base), those that have images take [`image`](Self::image). A backend that finds nothing
/// for itself uses its documented default, or refuses.
///
/// ```
/// use poolyard_exec::{Limits, Network, Profile};
///
/// let profile = Profile::new().image("debian:12").limits(Limits::new().memory(256 << 20).processes(64));
/// assert_eq!(profile.limits.network, Some(Network::Off));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// The root directory that programs see, shared and read-only.
    pub base: Option<PathBuf>,
    /// The name of an image.
    pub image: Option<String>,
    /// What the resource is made with: fixed values or ceilings, as the backend's
    /// [`Support`](crate::Support) says. The network is always said.
    pub limits: Limits,
}

impl Profile {
    /// The backend's default root, no limits, no network.
    pub fn new() -> Self {
        Self { base: None, image: None, limits: Limits::new().network(Network::Off) }
    }

    /// Sets [`base`](Self::base).
    pub fn base(mut self, directory: impl Into<PathBuf>) -> Self {
        self.base = Some(directory.into());
        self
    }

    /// Sets [`image`](Self::image).
    pub fn image(mut self, name: impl Into<String>) -> Self {
        self.image = Some(name.into());
        self
    }

    /// Replaces the limits; the network stays as it is unless the new limits say otherwise.
    pub fn limits(mut self, limits: Limits) -> Self {
        let network = limits.network.or(self.limits.network);
        self.limits = Limits { network, ..limits };
        self
    }

    /// Sets the reach of the network. Off by default.
    pub fn network(mut self, network: Network) -> Self {
        self.limits.network = Some(network);
        self
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_is_off_until_someone_says_otherwise() {
        assert_eq!(Profile::default().limits.network, Some(Network::Off));
        assert_eq!(Profile::new().limits(Limits::new().memory(1)).limits.network, Some(Network::Off));
        let shared = Profile::new().network(Network::Shared);
        assert_eq!(shared.limits(Limits::new()).limits.network, Some(Network::Shared));
        let said = Profile::new().limits(Limits::new().network(Network::Loopback));
        assert_eq!(said.limits.network, Some(Network::Loopback));
    }
}
