//! A private engine for this program alone.

use std::process::Command;

use crate::AnyError;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../backend-docker/tests/engine.sh");

/// Starts an engine, runs this program again with it, and ends it.
pub(crate) fn with_private_engine() -> Result<(), AnyError> {
    let dir = std::env::temp_dir().join(format!("poolyard-bench-{}", std::process::id()));
    let script = |action: &str| -> Result<(), AnyError> {
        let mut command = Command::new("bash");
        command.arg(SCRIPT).arg(action).arg(&dir).env("OWNER", std::process::id().to_string());
        match command.stdout(std::process::Stdio::null()).status()?.success() {
            true => Ok(()),
            false => Err("there is no engine: set DOCKER_HOST, or run as root on Debian".into()),
        }
    };
    script("up")?;
    let host = format!("unix://{}/docker.sock", dir.display());
    let status = Command::new(std::env::current_exe()?).env("DOCKER_HOST", host).status();
    script("down")?;
    if status?.success() { Ok(()) } else { Err("the measurement failed; see above".into()) }
}
