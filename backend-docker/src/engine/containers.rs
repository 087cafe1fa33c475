//! Calls about containers.

use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters as query;
use hyper::Method;

use super::http::escape;
use super::types::{Change, Inspected, Listed};
use super::{CREATE, Engine, INSPECT, REMOVE, START};
use crate::error::{Error, ErrorKind, Stage};

impl Engine {
    pub(crate) async fn create(
        &self,
        name: &str,
        platform: &str,
        body: ContainerCreateBody,
    ) -> Result<String, Error> {
        let options = query::CreateContainerOptions { name: Some(name.into()), platform: platform.into() };
        let call = self.docker.create_container(Some(options), body);
        Ok(self.call(Stage::Create, CREATE, call).await?.id)
    }

    pub(crate) async fn start(&self, id: &str) -> Result<(), Error> {
        let call = self.docker.start_container(id, None::<query::StartContainerOptions>);
        self.call(Stage::Start, START, call).await
    }

    pub(crate) async fn restart(&self, id: &str) -> Result<(), Error> {
        let options = query::RestartContainerOptionsBuilder::default().t(0).build();
        self.call(Stage::Reset, START, self.docker.restart_container(id, Some(options))).await
    }

    pub(crate) async fn pause(&self, id: &str) -> Result<(), Error> {
        self.call(Stage::Pause, INSPECT, self.docker.pause_container(id)).await
    }

    pub(crate) async fn unpause(&self, id: &str) -> Result<(), Error> {
        self.call(Stage::Pause, INSPECT, self.docker.unpause_container(id)).await
    }

    pub(crate) async fn rename(&self, id: &str, name: &str) -> Result<(), Error> {
        let options = query::RenameContainerOptions { name: name.into() };
        self.call(Stage::Inspect, INSPECT, self.docker.rename_container(id, options)).await
    }

    /// Removes a container in whatever state, with its anonymous volumes, and waits until it is
    /// gone. One that does not exist is a success.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), Error> {
        let removal = async {
            loop {
                match self.remove_once(id).await {
                    // Somebody else is removing it: until it is gone, its name and ports are taken.
                    Err(e) if *e.kind() == ErrorKind::Conflict => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(e) if *e.kind() == ErrorKind::Missing => return Ok(()),
                    result => return result,
                }
            }
        };
        let end = tokio::time::timeout(REMOVE, removal).await;
        end.unwrap_or_else(|_| Err(Error::timeout(Stage::Remove, REMOVE)))
    }

    async fn remove_once(&self, id: &str) -> Result<(), Error> {
        let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        self.call(Stage::Remove, REMOVE, self.docker.remove_container(id, Some(options))).await
    }

    pub(crate) async fn inspect(&self, id: &str) -> Result<Inspected, Error> {
        let path = format!("/containers/{}/json", escape(id));
        self.http.json(Stage::Inspect, Method::GET, &path, INSPECT).await
    }

    /// All containers, running or not, that carry `label` (`name` or `name=value`).
    pub(crate) async fn list(&self, label: &str) -> Result<Vec<Listed>, Error> {
        let path = format!("/containers/json?all=1&filters={}", label_filter(label));
        self.http.json(Stage::Inspect, Method::GET, &path, INSPECT).await
    }

    /// What the container changed in its root file system.
    pub(crate) async fn diff(&self, id: &str) -> Result<Vec<Change>, Error> {
        let path = format!("/containers/{}/changes", escape(id));
        let changes: Option<Vec<Change>> = self.http.json(Stage::Verify, Method::GET, &path, INSPECT).await?;
        Ok(changes.unwrap_or_default())
    }
}

pub(super) fn label_filter(label: &str) -> String {
    escape(&serde_json::json!({ "label": [label] }).to_string())
}
