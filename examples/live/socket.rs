//! The socket between the process that is watched and the one that watches.

use std::fmt::Display;
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use poolyard::{Manager, Pool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{Latencies, Picture};

/// Where the sockets of this user's processes are: a directory that only this user can enter.
pub fn directory() -> PathBuf {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    base.join(format!("poolyard-live-{}", rustix::process::getuid().as_raw()))
}

/// The sockets behind which somebody listens. Those of dead processes are removed.
pub async fn find() -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    let mut paths: Vec<_> = sockets.map(|entry| entry.path()).collect();
    paths.sort();
    let mut answering = Vec::new();
    for path in paths {
        match UnixStream::connect(&path).await {
            Ok(_) => answering.push(path),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => drop(fs::remove_file(&path)),
            Err(_) => {}
        }
    }
    answering
}

/// Removed when it is dropped, however serving ends.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody may have tidied up already.
        let _ = fs::remove_file(&self.0);
    }
}

/// Shows `pool` to whoever connects to a socket in [`directory`], until the future is dropped. `ready`
/// learns the socket's path.
///
/// # Errors
///
/// The directory or the socket cannot be made.
pub async fn serve<M, S>(pool: Pool<M, Latencies, S>, ready: impl FnOnce(&Path)) -> io::Result<()>
where
    M: Manager<Key: Display>,
    S: BuildHasher + Send + Sync + 'static,
{
    // Names a file, so whatever the pool is called, it is no path.
    let name = pool.config().name.replace('/', "-");
    private(&directory())?;
    let socket = Socket(directory().join(format!("{name}-{}.sock", std::process::id())));
    let listener = UnixListener::bind(&socket.0)?;
    ready(&socket.0);
    loop {
        let (mut stream, _) = listener.accept().await?;
        let picture = serde_json::to_vec(&Picture::of(&pool))?;
        // A watcher that goes away is no affair of the watched.
        tokio::spawn(async move { stream.write_all(&picture).await });
    }
}

/// Makes the directory. The parent may be everybody's, so one that is there already may be somebody's trap.
fn private(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let found = fs::symlink_metadata(directory)?;
    let own = found.uid() == rustix::process::getuid().as_raw();
    match found.is_dir() && own && found.mode() & 0o077 == 0 {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{} is open to others; remove it, or set XDG_RUNTIME_DIR to a directory of your own",
            directory.display()
        ))),
    }
}

/// Asks for a picture.
///
/// # Errors
///
/// Nobody listens there any more, or what they say is no picture.
pub async fn ask(socket: &Path) -> io::Result<Picture> {
    let mut answer = Vec::new();
    UnixStream::connect(socket).await?.read_to_end(&mut answer).await?;
    Ok(serde_json::from_slice(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Workshops;

    #[tokio::test]
    async fn another_process_sees_what_the_pool_holds() {
        let pool = Pool::builder(Workshops::default()).name("seen").observer(Latencies::default());
        let pool = pool.max_total(3).build().expect("the options are possible");
        let (tell, told) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(serve(pool.clone(), |path| {
            let _ = tell.send(path.to_owned());
        }));
        let socket = told.await.expect("it is served");
        assert!(find().await.contains(&socket));

        let lease = pool.acquire(&"red").await.expect("there is room");
        let picture = ask(&socket).await.expect("it answers");
        assert_eq!((picture.pool.as_str(), picture.max_total), ("seen", 3));
        assert_eq!(picture.states[0], ("leased".to_owned(), 1));
        assert_eq!(picture.latencies[0].calls, 1, "the creation was timed");
        let [resource] = &picture.resources[..] else { panic!("there is one resource") };
        assert_eq!((resource.key.as_str(), resource.state.as_str()), ("red", "leased"));
        assert_eq!(resource.description, "workshop 0");
        drop(lease);

        serving.abort();
        assert!(serving.await.is_err_and(|error| error.is_cancelled()));
        assert!(!socket.exists(), "it is removed at the end");
    }
}
