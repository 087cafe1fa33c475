//! Builds the hostile programs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use poolyard_testkit::availability::{Availability, require};

/// Where a built program can be named that is to be used instead of building one.
const GIVEN: &str = "POOLYARD_HOSTILE";

/// A directory that everybody may read, with the program in it, and a set-id copy if root makes it.
pub(crate) struct Programs {
    pub(crate) dir: PathBuf,
}

impl Programs {
    /// Builds them, or says why the test is left out.
    pub(crate) fn build() -> Option<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/var/tmp/poolyard-hostile-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let programs = Self { dir };
        let built = match std::env::var_os(GIVEN) {
            Some(given) => std::fs::copy(given, programs.program()).map(drop).map_err(|e| e.to_string()),
            None => compile(&programs.program()),
        };
        let missing = built.err().map_or(Availability::Ready, Availability::Missing);
        if !require("hostile", &missing) {
            return None;
        }
        for (path, mode) in [(programs.dir.clone(), 0o755), (programs.program(), 0o755)] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        let rooted = programs.dir.join("rooted");
        std::fs::copy(programs.program(), &rooted).unwrap();
        std::fs::set_permissions(rooted, PermissionsExt::from_mode(0o4755)).unwrap();
        Some(programs)
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.dir.join("hostile")
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn compile(to: &Path) -> Result<(), String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/programs");
    let entries = std::fs::read_dir(sources).map_err(|e| e.to_string())?;
    let sources =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "c"));
    let output = Command::new("cc")
        .args(["-static", "-s", "-O1", "-w", "-o"])
        .arg(to)
        .args(sources)
        .output()
        .map_err(|e| format!("cc cannot be run: {e}; install a compiler for C and its static library"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
