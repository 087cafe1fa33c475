//! Directories on the host that are mounted into containers: the agent, and the socket that it
//! calls us on.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UnixListener;

use crate::agent::Program;
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
        make_private(base).map_err(failed)?;
        remove_abandoned(base);
        let path = base.join(owner.label());
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        Ok(RunDirs { path, next: AtomicU64::new(0) })
    }

    /// `/tmp/poolyard-docker-<uid>`: short, because a socket's path may have 107 bytes.
    pub(crate) fn default_base() -> PathBuf {
        let uid = fs::metadata("/proc/self").map_or(0, |m| m.uid());
        std::env::temp_dir().join(format!("poolyard-docker-{uid}"))
    }

    /// The agent for one kind of machine, as a file that containers share.
    fn agent(&self, program: &Program) -> io::Result<PathBuf> {
        let path = self.path.join(program.architecture);
        if !path.exists() {
            // Under its name only once it is whole: others may be looking for it.
            let new = self.path.join(format!("new-{}", self.next.fetch_add(1, Ordering::Relaxed)));
            fs::write(&new, program.image)?;
            fs::set_permissions(&new, Permissions::from_mode(0o555))?;
            fs::rename(&new, &path)?;
        }
        Ok(path)
    }

    /// A directory with the agent in it, and an ear at its socket.
    pub(crate) fn make(&self, program: &Program) -> Result<(RunDir, UnixListener), Error> {
        let path = self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let failed = |e: io::Error| {
            let message = format!("cannot make a container's directory {}", path.display());
            Error::new(Stage::Agent, ErrorKind::Capacity, message).with_source(e)
        };
        DirBuilder::new().mode(0o755).create(&path).map_err(failed)?;
        let dir = RunDir { path: path.clone() };
        let agent = self.agent(program).map_err(failed)?;
        fs::hard_link(agent, path.join("agent")).map_err(failed)?;
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
