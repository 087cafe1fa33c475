//! Commands and their outcomes.

use std::time::Duration;

use poolyard_exec::{Command, Exec, Limit, Limits, Verdict};
use poolyard_linux_ns::{LinuxNs, SandboxSpec};

#[tokio::test]
async fn a_command_runs_and_tells_its_output_and_code() {
    let ns = LinuxNs::new().unwrap();
    let sandbox = ns.sandbox(&SandboxSpec::default()).await.unwrap();
    let command = Command::shell("echo out; echo err >&2; exit 3");
    let outcome = sandbox.exec(&command).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exited { code: 3 });
}
