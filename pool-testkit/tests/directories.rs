//! Puts a manager of directories to the laws.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use poolyard_core::{Context, Manager};
use poolyard_testkit::{Capabilities, Capability, Harness, conformance};

/// The manager under test: it makes empty directories.
struct Directories(PathBuf);

/// A directory, removed when it is dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Manager for Directories {
    type Key = ();
    type Resource = Directory;
    type Error = io::Error;

    async fn create(&self, _: &(), cx: &Context) -> io::Result<Directory> {
        let path = self.0.join(cx.id().as_u64().to_string());
        std::fs::create_dir(&path)?;
        Ok(Directory(path))
    }

    async fn recycle(&self, _: &(), directory: &mut Directory, _: &Context) -> io::Result<()> {
        std::fs::remove_dir_all(&directory.0)?;
        std::fs::create_dir(&directory.0)
    }
}

/// What the laws need to know: how to use, dirty, break and count its resources.
struct World(PathBuf);

fn mark_in(directory: &Path, mark: u32) -> PathBuf {
    directory.join(format!("mark-{mark}"))
}

impl Harness for World {
    type Manager = Directories;

    async fn new() -> Self {
        static WORLDS: AtomicU64 = AtomicU64::new(0);
        let name = format!("directories-{}-{}", std::process::id(), WORLDS.fetch_add(1, Relaxed));
        let root = std::env::temp_dir().join(name);
        std::fs::create_dir(&root).expect("the temporary directory can be written to");
        World(root)
    }
    fn manager(&self) -> Directories {
        Directories(self.0.clone())
    }
    fn keys(&self) -> Vec<()> {
        vec![()]
    }
    async fn works(&self, _: &(), directory: &mut Directory) -> bool {
        directory.0.is_dir()
    }
    async fn dirty(&self, directory: &mut Directory, mark: u32) {
        std::fs::write(mark_in(&directory.0, mark), "").expect("the directory is there");
    }
    async fn is_dirty(&self, directory: &mut Directory, mark: u32) -> bool {
        mark_in(&directory.0, mark).exists()
    }
    async fn kill(&self, directory: &mut Directory) {
        std::fs::remove_dir_all(&directory.0).expect("the directory is there");
    }
    async fn stop(&self, _: &mut Directory) {}
    async fn live(&self) -> usize {
        std::fs::read_dir(&self.0).map_or(0, Iterator::count)
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { stop: Capability::No("a directory has nobody who could stop"), ..Capabilities::ALL }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

conformance!(directories, World);
