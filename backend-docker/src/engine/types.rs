//! What we read of the engine's replies, and nothing more: fields may be missing, null or new.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};

/// One line of a container listing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Listed {
    pub(crate) id: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) names: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) labels: HashMap<String, String>,
    /// Free text: engines invent states ("stopped", "stopping").
    #[serde(deserialize_with = "or_default")]
    pub(crate) state: String,
    /// Seconds since the epoch, by the engine's clock.
    #[serde(deserialize_with = "or_default")]
    pub(crate) created: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Inspected {
    pub(crate) id: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) state: State,
    #[serde(deserialize_with = "or_default")]
    pub(crate) network_settings: NetworkSettings,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct State {
    #[serde(deserialize_with = "or_default")]
    pub(crate) running: bool,
    #[serde(rename = "OOMKilled", deserialize_with = "or_default")]
    pub(crate) oom_killed: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) exit_code: i64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) health: Health,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Health {
    #[serde(deserialize_with = "or_default")]
    pub(crate) status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct NetworkSettings {
    #[serde(rename = "IPAddress", deserialize_with = "or_default")]
    pub(crate) ip_address: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) ports: HashMap<String, Option<Vec<Binding>>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) networks: HashMap<String, Endpoint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Binding {
    #[serde(deserialize_with = "or_default")]
    pub(crate) host_ip: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) host_port: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Endpoint {
    #[serde(rename = "IPAddress", deserialize_with = "or_default")]
    pub(crate) ip_address: String,
}

/// An image's own settings, as far as a resident agent has to stand in for them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Image {
    pub(crate) id: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) os: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) architecture: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) config: ImageConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageConfig {
    #[serde(deserialize_with = "or_default")]
    pub(crate) user: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) working_dir: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) healthcheck: serde_json::Value,
}

/// One line of the event stream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Event {
    pub(crate) action: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) actor: Actor,
    #[serde(rename = "timeNano", deserialize_with = "or_default")]
    pub(crate) time_nano: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Actor {
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub(crate) id: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) attributes: HashMap<String, String>,
}

/// One changed path of a container's writable layer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Change {
    pub(crate) path: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) kind: u8,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Info {
    #[serde(rename = "NCPU", deserialize_with = "or_default")]
    pub(crate) ncpu: usize,
    #[serde(deserialize_with = "or_default")]
    pub(crate) system_time: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) server_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Network {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) labels: HashMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Volumes {
    #[serde(deserialize_with = "or_default")]
    pub(crate) volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Volume {
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) labels: HashMap<String, String>,
}

/// What cannot be read counts as absent: `null`, or a type that an odd engine chose.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + serde::de::DeserializeOwned,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From replies of Docker 26.1 (API 1.45), shortened; and a state that Podman invented.
    #[test]
    fn replies_of_newer_engines_are_understood() {
        let list = r#"[{"Id":"8841","Names":["/vigorous_dhawan"],"Image":"poolyard-test:1",
            "ImageID":"sha256:50ce","Created":1795269061,"Labels":{"dev.poolyard.owner":"x"},
            "State":"running","Status":"Up Less than a second","HostConfig":{"NetworkMode":"bridge"},
            "Ports":[{"IP":"127.0.0.1","PrivatePort":80,"PublicPort":32773,"Type":"tcp"}]},
            {"Id":"2","Names":null,"Labels":null,"State":"stopped","Created":"yesterday","New":{}}]"#;
        let list: Vec<Listed> = serde_json::from_str(list).unwrap();
        assert_eq!((list[0].state.as_str(), list[0].labels["dev.poolyard.owner"].as_str()), ("running", "x"));
        assert_eq!((list[1].state.as_str(), list[1].created, list[1].names.len()), ("stopped", 0, 0));

        let inspected = r#"{"Id":"8841","State":{"Status":"running","Running":true,"OOMKilled":false,
            "ExitCode":0,"Error":""},"NetworkSettings":{"Bridge":"","IPAddress":"172.17.0.2",
            "SecondaryIPAddresses":null,"Ports":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"32773"}],
            "81/tcp":null},"Networks":{"bridge":{"IPAMConfig":null,"IPAddress":"172.17.0.2","DNSNames":null}}}}"#;
        let inspected: Inspected = serde_json::from_str(inspected).unwrap();
        let ports = &inspected.network_settings.ports;
        assert_eq!(ports["80/tcp"].as_ref().unwrap()[0].host_port, "32773");
        assert!(inspected.state.running && ports["81/tcp"].is_none());

        let event = r#"{"status":"start","id":"97f3","from":"poolyard-test:1","Type":"container",
            "Action":"start","Actor":{"ID":"97f3","Attributes":{"image":"poolyard-test:1"}},
            "scope":"local","time":1795269060,"timeNano":1795269060026317753}"#;
        let event: Event = serde_json::from_str(event).unwrap();
        assert_eq!((event.action.as_str(), event.actor.id.as_str()), ("start", "97f3"));
        assert_eq!(event.time_nano, 1_795_269_060_026_317_753);
    }
}
