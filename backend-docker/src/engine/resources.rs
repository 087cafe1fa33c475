//! Calls about networks and volumes: only what a sweep needs.

use bollard::query_parameters as query;
use hyper::Method;

use super::containers::label_filter;
use super::http::escape;
use super::types::{Network, Volume, Volumes};
use super::{Engine, INSPECT, REMOVE};
use crate::error::{Error, ErrorKind, Stage};

impl Engine {
    pub(crate) async fn networks(&self, label: &str) -> Result<Vec<Network>, Error> {
        let path = format!("/networks?filters={}", label_filter(label));
        self.http.json(Stage::Inspect, Method::GET, &path, INSPECT).await
    }

    pub(crate) async fn volumes(&self, label: &str) -> Result<Vec<Volume>, Error> {
        let path = format!("/volumes?filters={}", label_filter(label));
        let found: Volumes = self.http.json(Stage::Inspect, Method::GET, &path, INSPECT).await?;
        Ok(found.volumes)
    }

    pub(crate) async fn has_network(&self, name: &str) -> Result<bool, Error> {
        self.exists(&format!("/networks/{}", escape(name))).await
    }

    pub(crate) async fn has_volume(&self, name: &str) -> Result<bool, Error> {
        self.exists(&format!("/volumes/{}", escape(name))).await
    }

    async fn exists(&self, path: &str) -> Result<bool, Error> {
        match self.http.bytes(Stage::Resources, Method::GET, path, None, INSPECT).await {
            Ok(_) => Ok(true),
            Err(e) if *e.kind() == ErrorKind::Missing => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(crate) async fn create_network(&self, name: &str, labels: Labels) -> Result<(), Error> {
        let body = serde_json::json!({
            "Name": name, "CheckDuplicate": true, "Labels": labels,
        });
        let body = Some(body.to_string().into_bytes());
        self.http.bytes(Stage::Resources, Method::POST, "/networks/create", body, INSPECT).await.map(drop)
    }

    pub(crate) async fn create_volume(&self, name: &str, labels: Labels) -> Result<(), Error> {
        let body = serde_json::json!({ "Name": name, "Labels": labels });
        let body = Some(body.to_string().into_bytes());
        self.http.bytes(Stage::Resources, Method::POST, "/volumes/create", body, INSPECT).await.map(drop)
    }

    pub(crate) async fn remove_network(&self, id: &str) -> Result<(), Error> {
        let path = format!("/networks/{}", escape(id));
        absent_is_fine(self.http.bytes(Stage::Remove, Method::DELETE, &path, None, REMOVE).await)
    }

    pub(crate) async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let options = query::RemoveVolumeOptionsBuilder::default().force(true).build();
        absent_is_fine(self.call(Stage::Remove, REMOVE, self.docker.remove_volume(name, Some(options))).await)
    }
}

type Labels = std::collections::HashMap<String, String>;

fn absent_is_fine<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(e) if *e.kind() != ErrorKind::Missing => Err(e),
        _ => Ok(()),
    }
}
