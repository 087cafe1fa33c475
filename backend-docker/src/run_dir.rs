//! Directories on the host that are mounted into containers: the agent, and the socket that it
//! calls us on.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UnixListener;

use crate::agent::{MISSING, PROGRAM};
use crate::error::{Error, ErrorKind, Stage};
use crate::owner::Owner;

/// The directories of one owner; removed with it.
#[derive(Debug)]
pub(crate) struct RunDirs {
    path: PathBuf,
    next: AtomicU64,
}

/// The directory of one container; removed with it.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
}

impl RunDirs {
    /// Below `base`, which only this user may enter; what dead owners left there is removed.
    pub(crate) fn new(base: &Path, owner: &Owner) -> Result<RunDirs, Error> {
        let failed = |e: io::Error| {
            let message = format!("cannot use {}; choose another run directory", base.display());
            Error::new(Stage::Agent, ErrorKind::Unsupported, message).with_source(e)
        };
        if PROGRAM.is_empty() {
            let message = format!("this build carries no agent: {MISSING}; use without_agent()");
            return Err(Error::new(Stage::Agent, ErrorKind::Unsupported, message));
        }
        make_private(base).map_err(failed)?;
        remove_abandoned(base);
        let path = base.join(owner.label());
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let dirs = RunDirs { path, next: AtomicU64::new(0) };
        fs::write(dirs.agent(), PROGRAM).map_err(failed)?;
        fs::set_permissions(dirs.agent(), Permissions::from_mode(0o555)).map_err(failed)?;
        Ok(dirs)
    }

    /// `/tmp/poolyard-docker-<uid>`: short, because a socket's path may have 107 bytes.
    pub(crate) fn default_base() -> PathBuf {
        let uid = fs::metadata("/proc/self").map_or(0, |m| m.uid());
        std::env::temp_dir().join(format!("poolyard-docker-{uid}"))
    }

    fn agent(&self) -> PathBuf {
        self.path.join("agent")
    }

    /// A directory with the agent in it, and an ear at its socket.
    pub(crate) fn make(&self) -> Result<(RunDir, UnixListener), Error> {
        let path = self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let failed = |e: io::Error| {
            let message = format!("cannot make a container's directory {}", path.display());
            Error::new(Stage::Agent, ErrorKind::Capacity, message).with_source(e)
        };
        DirBuilder::new().mode(0o755).create(&path).map_err(failed)?;
        let dir = RunDir { path: path.clone() };
        fs::hard_link(self.agent(), path.join("agent")).map_err(failed)?;
        let listener = dir.listen().map_err(failed)?;
        Ok((dir, listener))
    }
}

impl RunDir {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Listens for the agent; once per start of the container.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let socket = self.path.join("socket");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        // The directory above keeps others out; inside the container the agent must get through.
        fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
        Ok(listener)
    }
}

impl Drop for RunDirs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Others may have made a directory of this name in a place that all can write to.
fn make_private(base: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(base) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let found = fs::symlink_metadata(base)?;
    let ours = fs::metadata("/proc/self")?.uid();
    if !found.is_dir() || found.uid() != ours || found.mode() & 0o077 != 0 {
        return Err(io::Error::other("the directory is not ours alone"));
    }
    Ok(())
}

fn remove_abandoned(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let owner = entry.file_name().to_str().and_then(Owner::parse);
        if owner.is_some_and(|owner| owner.is_alive() == Some(false)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
