//! From the words that all backends understand to a specification.

use poolyard_exec::{Network as ExecNetwork, Profile};

use crate::error::{Error, ErrorKind, Stage};
use crate::exec::OWN_PROCESSES;
use crate::spec::{ContainerSpec, Network};

impl TryFrom<&Profile> for ContainerSpec {
    type Error = Error;

    /// A [sandbox](ContainerSpec::sandbox) of the profile's image. Limits per resource become the
    /// container's; those that commands set are left to them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadSpec`] without an image. [`ErrorKind::Unsupported`] for a limit that a
    /// container cannot have: nothing is weakened in silence.
    fn try_from(profile: &Profile) -> Result<Self, Error> {
        let refuse = |kind, message: &str| Err(Error::new(Stage::Spec, kind, message));
        let Some(image) = &profile.image else {
            return refuse(ErrorKind::BadSpec, "the profile names no image; set Profile::image");
        };
        let limits = &profile.limits;
        let disk = limits.disk_bytes.or(limits.disk_inodes).or(limits.io_bandwidth).is_some();
        if limits.cpu_time.is_some() || limits.swap.is_some() || disk {
            let message = "a container cannot limit processor time, swap, disk or its rate by a profile; use \
                           wall_time, ContainerSpec::swap and Tmpfs";
            return refuse(ErrorKind::Unsupported, message);
        }
        let mut spec = ContainerSpec::sandbox(image).per_command_limits(limits.clone());
        if let Some(bytes) = limits.memory {
            spec = spec.memory(bytes);
        }
        if let Some(count) = limits.processes {
            spec = spec.pids(u32::try_from(count).unwrap_or(u32::MAX - OWN_PROCESSES) + OWN_PROCESSES);
        }
        if let Some(millicpus) = limits.cpu_bandwidth {
            spec = spec.cpus(f64::from(millicpus) / 1000.0);
        }
        if let Some(cpus) = &limits.cpu_set {
            spec = spec.cpu_set(cpus.to_string());
        }
        Ok(spec.network(match limits.network {
            None | Some(ExecNetwork::Off) => Network::Off,
            Some(ExecNetwork::Loopback) => Network::Loopback,
            Some(ExecNetwork::Shared) => Network::Host,
        }))
    }
}
