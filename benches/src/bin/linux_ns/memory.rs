//! What an idle sandbox takes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use poolyard_benches::row::{OURS, Row};
use poolyard_linux_ns::LinuxNs;
use tokio::runtime::Builder;

use crate::ours::spec;
use crate::programs::Programs;

/// How many sandboxes are made to see what one takes.
const COUNT: usize = 100;

/// A cgroup of version 1 that this program moves into, so that the kernel counts what it makes: processes,
/// namespaces, mounts and their memory in the kernel alike.
pub(crate) struct Counter {
    dir: PathBuf,
}

impl Counter {
    pub(crate) fn new() -> io::Result<Self> {
        let dir = PathBuf::from(format!("/sys/fs/cgroup/memory/poolyard-bench-{}", std::process::id()));
        std::fs::create_dir(&dir)?;
        std::fs::write(dir.join("cgroup.procs"), "0")?;
        Ok(Self { dir })
    }

    pub(crate) fn bytes(&self) -> io::Result<f64> {
        let text = std::fs::read_to_string(self.dir.join("memory.usage_in_bytes"))?;
        text.trim().parse().map_err(io::Error::other)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = std::fs::write("/sys/fs/cgroup/memory/cgroup.procs", "0");
        // The last sandboxes may be ending still.
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.dir.exists() && Instant::now() < deadline {
            remove(&self.dir);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Removes a cgroup and those in it, as far as they are empty.
fn remove(dir: &Path) {
    let inside = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path());
    }
    let _ = std::fs::remove_dir(dir);
}

pub(crate) fn rows(programs: &Programs) -> io::Result<Vec<Row>> {
    const BENCH: &str = "memory/idle_sandbox";
    let counter = match Counter::new() {
        Ok(counter) => counter,
        Err(e) => return Ok(vec![Row::missing(BENCH, OURS, format!("no memory cgroup of version 1: {e}"))]),
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let row = runtime.block_on(async {
        let ns = LinuxNs::new().map_err(io::Error::other)?;
        let (spec, mut kept) = (spec(programs), Vec::new());
        let warm = ns.sandbox(&spec).await.map_err(io::Error::other)?;
        let before = counter.bytes()?;
        for _ in 0..COUNT {
            kept.push(ns.sandbox(&spec).await.map_err(io::Error::other)?);
        }
        let each = (counter.bytes()? - before) / COUNT as f64 / 1024.0;
        drop((warm, kept));
        let note = "memory of the kernel included; a hundred were made";
        Ok::<_, io::Error>(Row::new(BENCH, OURS, "KiB", &[each], note))
    });
    row.map(|row| vec![row])
}
