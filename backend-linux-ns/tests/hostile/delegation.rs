//! Cgroups that root gives to an ordinary user, as a service manager does.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

/// Directories in which another user makes cgroups. They go with this value.
pub(crate) struct Delegated {
    dirs: Vec<PathBuf>,
    /// Writing 0 into each of them moves the writer in.
    pub(crate) procs: Vec<PathBuf>,
}

const ROOT: &str = "/sys/fs/cgroup";

impl Delegated {
    /// Whatever this machine has of them.
    pub(crate) fn to(user: u32) -> Self {
        let name = format!("poolyard-delegated-{}", std::process::id());
        let mut made = Self { dirs: Vec::new(), procs: Vec::new() };
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        let result = if unified { made.version_2(&name, user) } else { made.version_1(&name, user) };
        if let Err(e) = result {
            eprintln!("no cgroups are delegated: {e}");
            made.procs.clear();
        }
        made
    }

    fn version_1(&mut self, name: &str, user: u32) -> io::Result<()> {
        for controller in ["memory", "pids", "cpuacct", "freezer"] {
            let dir = Path::new(ROOT).join(controller).join(name);
            self.make(&dir, user)?;
            self.procs.push(dir.join("cgroup.procs"));
        }
        Ok(())
    }

    /// A directory that is marked as delegated, and one in it for the processes.
    fn version_2(&mut self, name: &str, user: u32) -> io::Result<()> {
        let dir = Path::new(ROOT).join(name);
        for controller in ["+memory", "+pids", "+cpu", "+cpuset"] {
            let _ = fs::write(Path::new(ROOT).join("cgroup.subtree_control"), controller);
        }
        self.make(&dir, user)?;
        rustix::fs::setxattr(&dir, "user.delegate", b"1", rustix::fs::XattrFlags::empty())?;
        let inner = dir.join("main");
        self.make(&inner, user)?;
        self.procs.push(inner.join("cgroup.procs"));
        Ok(())
    }

    fn make(&mut self, dir: &Path, user: u32) -> io::Result<()> {
        fs::create_dir(dir)?;
        self.dirs.insert(0, dir.to_owned());
        chown(dir, Some(user), Some(user))?;
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"] {
            if dir.join(file).exists() {
                chown(dir.join(file), Some(user), Some(user))?;
            }
        }
        Ok(())
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // What a killed test left below is swept here, too.
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path());
            }
            let _ = fs::remove_dir(dir);
        }
    }
}
