//! [`LocalExec`]: commands as plain processes of this user, **without isolation**.

mod dir;
mod files;
mod launch;
mod meter;
mod sample;
mod supervise;
mod tree;

use std::io;
use std::sync::Arc;

use poolyard_exec::{Command, Exec, ExecError, Feature, Limit, Limits, Process, Support};

use dir::PrivateDir;

/// Runs commands as plain processes of this user, **without isolation**: no other root directory, no other
/// user, the host's network, the host's process numbers. For tests and trusted programs only.
///
/// It enforces what a plain parent honestly can, and refuses the rest by name:
///
/// - wall time, and processor time summed over the process group and its awaited children, looked at every
///   20 ms;
/// - output per stream, while it is read and once more at the end;
/// - file size, open files and stack by `setrlimit`;
/// - with [`sampled`](Self::sampled), memory and processes, looked at every 20 ms.
///
/// The processes of a command are its process group. A program that leaves it with `setsid` escapes every
/// limit and every kill; a sandbox is what keeps it.
///
/// Commands start in a private temporary directory, which lives as long as the executor and its commands.
///
/// ```
/// use poolyard_exec::{Command, Exec};
/// use poolyard_testkit::exec::LocalExec;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let executor = LocalExec::new()?;
/// let outcome = executor.exec(&Command::shell("echo hello")).await?;
/// assert_eq!(outcome.stdout.text(), "hello\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalExec {
    dir: Arc<PrivateDir>,
    support: Support,
}

const NO_GROUP: &str = "plain processes have no control group; use a sandbox backend";
const NO_ROOT: &str = "plain processes write to the host's own file systems; use a sandbox backend";
const NO_NETWORK: &str = "plain processes use the host's network; use a sandbox backend";

impl LocalExec {
    /// An executor with a private temporary directory.
    ///
    /// # Errors
    ///
    /// If the directory cannot be made.
    pub fn new() -> io::Result<Self> {
        let dir = Arc::new(PrivateDir::new()?);
        let support = Support::new(dir.path().as_os_str().as_encoded_bytes())
            .per_command([Limit::CpuTime, Limit::WallTime, Limit::Output])
            .per_command([Limit::FileSize, Limit::OpenFiles, Limit::Stack])
            .unsupported([Limit::Memory, Limit::Processes, Limit::Swap], NO_GROUP)
            .unsupported([Limit::CpuSet, Limit::CpuBandwidth, Limit::IoBandwidth], NO_GROUP)
            .unsupported([Limit::DiskBytes, Limit::DiskInodes], NO_ROOT)
            .unsupported([Limit::Network], NO_NETWORK)
            .without(Feature::Tty, "plain processes get pipes; use a sandbox backend")
            .without(Feature::AbsoluteFiles, "an absolute path is the host's own; give a relative one");
        Ok(Self { dir, support })
    }

    /// Accepts limits on memory (resident, summed) and processes as well, and watches them by looking every
    /// 20 ms: a program can be over for that long, and by as much as it manages in that time.
    pub fn sampled(mut self) -> Self {
        self.support = self.support.per_command([Limit::Memory, Limit::Processes]);
        self
    }

    /// Puts `limits` on every command; one that asks for more is refused.
    ///
    /// # Errors
    ///
    /// If one of them is not supported.
    pub fn made_with(mut self, limits: Limits) -> Result<Self, ExecError> {
        limits.refuse_unsupported(&self.support)?;
        self.support = self.support.with_made_with(limits);
        Ok(self)
    }
}

impl Exec for LocalExec {
    fn support(&self) -> &Support {
        &self.support
    }

    async fn spawn(&self, command: &Command) -> Result<Process, ExecError> {
        let limits = self.support.check(command)?;
        files::copy_in(&self.dir, command)?;
        launch::start(&self.dir, command, limits)
    }
}
