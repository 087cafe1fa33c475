//! Calls about images.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters as query;
use hyper::Method;
use tokio_stream::{Stream, StreamExt};

use super::http::escape;
use super::types::Image;
use super::{Engine, INSPECT, classify};
use crate::error::{Error, ErrorKind, Stage};
use crate::spec::Pull;

/// A fetch of an image that takes longer has failed.
const FETCH: Duration = Duration::from_secs(1800);

impl Engine {
    pub(crate) async fn inspect_image(&self, name: &str) -> Result<Image, Error> {
        let path = format!("/images/{}/json", escape(name));
        match self.http.json(Stage::Image, Method::GET, &path, INSPECT).await {
            Err(e) if *e.kind() == ErrorKind::Missing => {
                let message =
                    format!("the engine has no image {name:?}; pull it, load it or correct the name");
                Err(Error::new(Stage::Image, ErrorKind::ImageMissing, message))
            }
            other => other,
        }
    }

    /// Finds the image, fetching it first as `pull` says. However many ask at once, it is fetched
    /// once.
    pub(crate) async fn ensure_image(&self, name: &str, platform: &str, pull: &Pull) -> Result<Image, Error> {
        if *pull != Pull::Always {
            match self.inspect_image(name).await {
                Err(e) if *e.kind() == ErrorKind::ImageMissing && *pull != Pull::Never => {}
                found => return found,
            }
        }
        let lock = self.pulls.lock().entry(name.into()).or_default().clone();
        let result = self.fetch_alone(name, platform, pull, &lock).await;
        let mut pulls = self.pulls.lock();
        if Arc::strong_count(&lock) == 2 {
            pulls.remove(name);
        }
        result
    }

    async fn fetch_alone(
        &self,
        name: &str,
        platform: &str,
        pull: &Pull,
        lock: &tokio::sync::Mutex<()>,
    ) -> Result<Image, Error> {
        let waited = lock.try_lock().is_err();
        let _held = lock.lock().await;
        // Somebody else may have fetched it while we waited.
        if waited && let Ok(image) = self.inspect_image(name).await {
            return Ok(image);
        }
        match pull {
            Pull::Load(path) => self.load(read(path).await?).await?,
            Pull::Import(path) => self.import(name, read(path).await?, &[]).await?,
            _ => self.pull(name, platform).await?,
        }
        self.inspect_image(name).await
    }

    async fn pull(&self, name: &str, platform: &str) -> Result<(), Error> {
        tracing::info!(image = name, "pulling");
        let options = query::CreateImageOptionsBuilder::default()
            .from_image(&with_tag(name))
            .platform(platform)
            .build();
        self.drain(self.docker.create_image(Some(options), None, None)).await.map_err(|e| match e.kind() {
            // An image that cannot be had under this name, in the words of many registries.
            ErrorKind::Missing => Error::new(Stage::Image, ErrorKind::ImageMissing, e.to_string()),
            _ => e,
        })
    }

    async fn load(&self, tar: Vec<u8>) -> Result<(), Error> {
        let options = query::ImportImageOptionsBuilder::default().build();
        self.drain(self.docker.import_image(options, bollard::body_full(tar.into()), None)).await
    }

    /// Makes an image `name` of a root file system in a tar archive.
    pub(crate) async fn import(&self, name: &str, tar: Vec<u8>, changes: &[&str]) -> Result<(), Error> {
        let options = query::CreateImageOptionsBuilder::default()
            .from_src("-")
            // Not apart from its tag, which Podman would not read.
            .repo(&with_tag(name))
            .changes(changes.iter().map(|c| c.to_string()).collect())
            .build();
        let body = bollard::body_full(tar.into());
        self.drain(self.docker.create_image(Some(options), Some(body), None)).await
    }

    /// Removes the name, and the image if no other name and no container is left of it.
    pub(crate) async fn remove_image(&self, name: &str) -> Result<(), Error> {
        let remove = self.docker.remove_image(name, None::<query::RemoveImageOptions>, None);
        self.call(Stage::Image, FETCH, remove).await?;
        Ok(())
    }

    async fn drain<T>(
        &self,
        stream: impl Stream<Item = Result<T, bollard::errors::Error>>,
    ) -> Result<(), Error> {
        let all = async {
            tokio::pin!(stream);
            while let Some(line) = stream.next().await {
                line.map_err(|e| classify::bollard(Stage::Image, e))?;
            }
            Ok(())
        };
        let end = tokio::time::timeout(FETCH, all).await;
        end.unwrap_or_else(|_| Err(Error::timeout(Stage::Image, FETCH)))
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let owned = path.to_owned();
    let tar = tokio::task::spawn_blocking(move || std::fs::read(owned)).await.expect("reading panics not");
    tar.map_err(|e| {
        let message = format!("cannot read the archive {}", path.display());
        Error::new(Stage::Image, ErrorKind::BadSpec, message).with_source(e)
    })
}

/// Without a tag the engine would pull all of them.
fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || last.contains('@') { name.into() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::with_tag;

    #[test]
    fn only_one_tag_is_pulled() {
        assert_eq!(with_tag("redis"), "redis:latest");
        assert_eq!(with_tag("redis:7"), "redis:7");
        assert_eq!(with_tag("localhost:5000/redis"), "localhost:5000/redis:latest");
        assert_eq!(with_tag("redis@sha256:0"), "redis@sha256:0");
    }
}
