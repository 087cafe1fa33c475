//! The suite that every `Exec` runs.

#![allow(missing_docs)]
#![cfg(target_os = "linux")]

use poolyard_exec::Limits;
use poolyard_linux_ns::{LinuxNs, Sandbox, SandboxSpec};
use poolyard_testkit::availability::Availability;
use poolyard_testkit::exec::ExecHarness;
use poolyard_testkit::exec_suite;

struct Ns;

impl ExecHarness for Ns {
    type Exec = Sandbox;

    const NAME: &'static str = "linux-ns";

    async fn availability() -> Availability {
        match LinuxNs::new() {
            Ok(_) => Availability::Ready,
            Err(error) => Availability::Missing(error.to_string()),
        }
    }

    async fn executor(limits: Limits) -> Sandbox {
        let ns = LinuxNs::new().expect("it was there a moment ago");
        ns.sandbox(&SandboxSpec::builder().limits(limits).build()).await.expect("a sandbox can be made")
    }
}

exec_suite!(Ns);
