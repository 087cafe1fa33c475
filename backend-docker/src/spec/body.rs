//! From a specification to what the engine is asked for.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount as EngineMount, MountType, PortBinding,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use super::{ContainerSpec, Network, Port, Source, capability};

/// Where the agent lies in the container.
const AGENT_DIR: &str = "/.pool";

/// What is put into a container beside its specification.
pub(crate) struct Injection<'a> {
    /// Directory with the agent and its socket; `None` leaves the image's own process 1.
    pub(crate) agent: Option<&'a Path>,
    pub(crate) labels: HashMap<String, String>,
    /// Which port of each range is asked for.
    pub(crate) turn: u32,
}

impl ContainerSpec {
    pub(crate) fn body(&self, injection: &Injection<'_>) -> ContainerCreateBody {
        let mut labels = injection.labels.clone();
        labels.extend(self.labels.iter().cloned());
        let agent = injection.agent.is_some();
        let own = |words: &Option<Vec<String>>| if agent { None } else { words.clone() };
        ContainerCreateBody {
            image: Some(self.image.clone()),
            hostname: self.hostname.clone(),
            user: if agent { Some("0:0".into()) } else { self.user.clone() },
            env: Some(self.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            entrypoint: if agent { Some(vec![format!("{AGENT_DIR}/agent")]) } else { own(&self.entrypoint) },
            cmd: if agent { Some(Vec::new()) } else { own(&self.cmd) },
            working_dir: self.work_dir.clone(),
            labels: Some(labels),
            exposed_ports: Some(self.ports.iter().map(Port::name).collect()),
            // Without an agent stdin is all we can hold on to.
            open_stdin: Some(!agent),
            stdin_once: Some(!agent),
            host_config: Some(self.host_config(injection)),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self, injection: &Injection<'_>) -> HostConfig {
        let agent = injection.agent.is_some();
        let memory = self.memory.map(|m| m as i64);
        HostConfig {
            // Nothing of it stays when its process ends, whoever ends it.
            auto_remove: Some(true),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            memory,
            memory_swap: memory.map(|m| m + self.swap as i64),
            nano_cpus: self.nano_cpus.map(|n| n as i64),
            cpuset_cpus: self.cpu_set.clone(),
            pids_limit: Some(self.pids.into()),
            shm_size: self.shm.map(|s| s as i64),
            ulimits: Some(self.ulimits.iter().map(ulimit).collect()),
            cap_drop: Some(vec!["ALL".into()]),
            cap_add: Some(self.capabilities_of_container(agent)),
            security_opt: (!self.new_privileges).then(|| vec!["no-new-privileges".into()]),
            readonly_rootfs: Some(self.read_only),
            tmpfs: Some(self.tmpfs.iter().map(|t| (t.path.clone(), t.options())).collect()),
            mounts: Some(self.mounts(injection.agent)),
            network_mode: Some(self.network_mode()),
            port_bindings: Some(self.port_bindings(injection.turn)),
            log_config: Some(HostConfigLogConfig {
                // The agent keeps what a service says; the engine would only fill its disk.
                typ: Some(if agent { "none" } else { "json-file" }.into()),
                config: None,
            }),
            runtime: self.runtime.clone(),
            init: (!agent).then_some(true),
            ..HostConfig::default()
        }
    }

    fn capabilities_of_container(&self, agent: bool) -> Vec<String> {
        let mut names = self.capabilities.clone();
        if agent {
            names.extend(capability::AGENT.map(String::from));
            // To take the loopback interface down. Programs do not get it.
            names.extend((self.network == Network::Off).then(|| "NET_ADMIN".into()));
        }
        names.sort();
        names.dedup();
        names
    }

    fn mounts(&self, agent: Option<&Path>) -> Vec<EngineMount> {
        let own = agent.map(|dir| EngineMount {
            target: Some(AGENT_DIR.into()),
            source: Some(dir.to_string_lossy().into_owned()),
            typ: Some(MountType::BIND),
            read_only: Some(true),
            ..EngineMount::default()
        });
        let theirs = self.mounts.iter().map(|mount| {
            let (typ, source) = match &mount.source {
                Source::Bind(path) => (MountType::BIND, Some(path.clone())),
                Source::Volume(name) => (MountType::VOLUME, Some(name.clone())),
                Source::Anonymous => (MountType::VOLUME, None),
            };
            EngineMount {
                target: Some(mount.target.clone()),
                source,
                typ: Some(typ),
                read_only: Some(mount.read_only),
                ..EngineMount::default()
            }
        });
        own.into_iter().chain(theirs).collect()
    }

    fn network_mode(&self) -> String {
        match &self.network {
            Network::Off | Network::Loopback => "none".into(),
            Network::Bridge => "bridge".into(),
            Network::Host => "host".into(),
            Network::Named(name) => name.clone(),
            Network::Container(id) => format!("container:{id}"),
        }
    }

    fn port_bindings(&self, turn: u32) -> HashMap<String, Option<Vec<PortBinding>>> {
        let binding = |port: &Port| PortBinding {
            host_ip: Some(port.address.to_string()),
            host_port: Some(port.wanted(turn)),
        };
        self.ports.iter().map(|port| (port.name(), Some(vec![binding(port)]))).collect()
    }
}

fn ulimit((name, value): &(String, i64)) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.clone()), soft: Some(*value), hard: Some(*value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MIB;

    fn plain(spec: &ContainerSpec) -> HostConfig {
        let agent = Some(Path::new("/run/x"));
        spec.body(&Injection { agent, labels: HashMap::new(), turn: 0 }).host_config.unwrap()
    }

    #[test]
    fn a_sandbox_is_closed_by_default() {
        let host = plain(&ContainerSpec::sandbox("a"));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop, Some(vec!["ALL".into()]));
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges".into()]));
        assert_eq!(host.pids_limit, Some(256));
        assert_eq!(host.privileged, None);
    }

    #[test]
    fn memory_without_swap_means_no_swap() {
        let host = plain(&ContainerSpec::sandbox("a").memory(8 * MIB));
        assert_eq!((host.memory, host.memory_swap), (Some(8 << 20), Some(8 << 20)));
    }

    #[test]
    fn ports_are_published_on_loopback_unless_asked_for() {
        let bindings = plain(&ContainerSpec::service("a").publish(Port::tcp(80))).port_bindings.unwrap();
        let binding = bindings["80/tcp"].clone().unwrap().remove(0);
        assert_eq!(binding.host_ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(binding.host_port.as_deref(), Some(""));
    }
}
