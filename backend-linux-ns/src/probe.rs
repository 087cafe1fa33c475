//! [`LinuxNs::probe`]: what this machine gives, and what to do about the rest.

use std::fmt;

use poolyard_exec::{Enforcement, Exec, Limit, Network};

use crate::manager::LinuxNs;
use crate::mode::Mode;
use crate::spec::SandboxSpec;

/// One thing that a sandbox can have, and whether it can be had here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub capability: String,
    /// Why it cannot be had and what to do; `None` if it can.
    pub missing: Option<String>,
}

/// What was found; one line per capability when printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The findings, the most important ones first.
    pub findings: Vec<Finding>,
}

impl Probe {
    /// What was found about a capability.
    pub fn finding(&self, capability: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.capability == capability)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { capability, missing } in &self.findings {
            match missing {
                None => writeln!(f, "yes  {capability}")?,
                Some(reason) => writeln!(f, "no   {capability}: {reason}")?,
            }
        }
        Ok(())
    }
}

impl LinuxNs {
    /// Finds out by trying what sandboxes can have here: modes, networks, limits.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is left behind.
    pub async fn probe(&self) -> Probe {
        let mut findings = Vec::new();
        let mut found = |capability: String, missing| findings.push(Finding { capability, missing });
        for mode in [Mode::Root, Mode::Subordinate, Mode::SingleUid] {
            let chosen = if mode == self.mode() { " (in use)" } else { "" };
            found(format!("mode: {mode}{chosen}"), mode.missing());
        }
        found("cgroups".into(), self.missing_cgroups().map(str::to_owned));
        for network in [Network::Off, Network::Loopback, Network::Shared] {
            let spec = SandboxSpec::builder().network(network).build();
            let made = self.sandbox(&spec).await;
            found(format!("sandbox with network {network}"), made.as_ref().err().map(with_causes));
            let (Ok(sandbox), Network::Off) = (made, network) else { continue };
            found("cgroups entered without a wait".into(), sandbox.slow_entry());
            for limit in Limit::ALL {
                let missing = match sandbox.support().enforcement(limit) {
                    Enforcement::No(reason) => Some(reason.into_owned()),
                    _ => None,
                };
                found(format!("limit {limit}"), missing);
            }
        }
        let landlock = self.landlock();
        for (needed, what) in crate::landlock::VERSIONS {
            let missing = match landlock {
                Err(reason) => Some(reason.clone()),
                Ok(version) if *version < needed => Some(crate::landlock::too_old(*version, needed, "it")),
                Ok(_) => None,
            };
            found(format!("Landlock: {what}"), missing);
        }
        let shared_devices = match self.mode() {
            Mode::Root => None,
            _ => {
                Some("only root makes device nodes; locks on the host's /dev/null are seen by others".into())
            }
        };
        found("device nodes of their own".into(), shared_devices);
        Probe { findings }
    }
}

fn with_causes(error: &crate::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
