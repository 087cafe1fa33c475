//! Shows sandboxes in a shared library, for a host written in another language: nothing is needed in its
//! `main`, and it is never forked. Built as `libembedded.so`; the tests load it into Python.

use poolyard_exec::{Command, Exec};
use poolyard_linux_ns::{LinuxNs, SandboxSpec};

/// Runs `echo` in a sandbox and says how many bytes came out of it; -1 if that failed.
#[allow(unsafe_code, reason = "a name that other languages can find has to be exported as it is")]
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
pub extern "C" fn poolyard_echo() -> i32 {
    echo().unwrap_or(-1)
}

fn echo() -> Option<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let sandbox = LinuxNs::new().ok()?.sandbox(&SandboxSpec::default()).await.ok()?;
        let outcome = sandbox.exec(&Command::new("echo").arg("hello")).await.ok()?;
        i32::try_from(outcome.stdout.bytes.len()).ok()
    })
}
