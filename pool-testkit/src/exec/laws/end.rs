//! How a command ends, or fails to start.

use std::time::Duration;

use poolyard_exec::{Command, Enforcement, ErrorKind, Exec, Limit, Limits, Signal, Stage, Verdict};

use super::{assert_usable, plain, run};
use crate::exec::ExecHarness;

/// Every exit code arrives, in the verdict and in the raw status.
pub async fn the_exit_code_is_told<H: ExecHarness>() {
    let executor = plain::<H>().await;
    for code in [0, 1, 42, 126, 127, 137, 255] {
        let outcome = run(&executor, &Command::shell(format!("exit {code}"))).await;
        assert_eq!(outcome.verdict, Verdict::Exited { code });
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(code));
    }
}

/// A program that a signal ends is told from one that exits with a high code.
pub async fn a_signal_is_told<H: ExecHarness>() {
    let executor = plain::<H>().await;
    for signal in [Signal::TERM, Signal::KILL, Signal::SEGV, Signal::USR1] {
        let outcome = run(&executor, &Command::shell(format!("kill -{} $$", signal.number()))).await;
        assert_eq!(outcome.verdict, Verdict::Signaled { signal });
        assert_eq!(outcome.status.and_then(|status| status.signal()), Some(signal));
    }
}

/// A program that is not there is an error, by path and by search, not an exit code.
pub async fn a_missing_program_is_an_error<H: ExecHarness>() {
    let executor = plain::<H>().await;
    for program in ["/no/such/program", "no-such-program", "./no-such-program", "/bin/sh/program"] {
        assert_eq!(
            start_fails(&executor, &Command::new(program)).await,
            ErrorKind::ProgramNotFound,
            "{program}"
        );
    }
}

/// A directory cannot be executed, and the error says so.
pub async fn a_directory_is_not_executed<H: ExecHarness>() {
    let executor = plain::<H>().await;
    assert_eq!(start_fails(&executor, &Command::new("/")).await, ErrorKind::NotExecutable);
}

/// A file without permission, or of no known kind, cannot be executed; no shell is tried instead.
pub async fn a_file_that_is_not_executable_is_not_executed<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let no_permission = Command::new("./file").file_in("file", "#!/bin/sh\necho ran\n", 0o644);
    assert_eq!(start_fails(&executor, &no_permission).await, ErrorKind::NotExecutable);
    let no_kind = Command::new("./file").file_in("file", "echo ran\n", 0o755);
    assert_eq!(start_fails(&executor, &no_kind).await, ErrorKind::NotExecutable);
    let no_interpreter = Command::new("./file").file_in("file", "#!/no/such/interpreter\n", 0o755);
    assert_eq!(start_fails(&executor, &no_interpreter).await, ErrorKind::NotExecutable);
}

/// A directory that is not there, or is none, is an error of its own.
pub async fn a_missing_working_directory_is_an_error<H: ExecHarness>() {
    let executor = plain::<H>().await;
    for directory in ["/no/such/directory", "/bin/sh"] {
        let command = Command::new("true").cwd(directory);
        assert_eq!(start_fails(&executor, &command).await, ErrorKind::NoWorkingDirectory, "{directory}");
    }
}

/// The command must not start, and must leave the executor usable.
async fn start_fails(executor: &impl Exec, command: &Command) -> ErrorKind {
    let error = match executor.exec(command).await {
        Ok(outcome) => panic!("{command:?} must not start: {outcome:?}"),
        Err(error) => error,
    };
    assert_eq!(error.stage(), Stage::Start, "{error}");
    assert!(error.leaves_usable(), "{error}");
    let spawned = executor.spawn(command).await.map(drop);
    assert_eq!(spawned.expect_err("spawn must refuse as well").kind(), error.kind());
    assert_usable(executor).await;
    error.kind()
}

/// What can never be right is refused before anything happens, by the name of the field.
pub async fn bad_input_is_refused_by_field_and_leaves_the_executor_usable<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let plain = || Command::new("true");
    let zero = |limits: Limits| plain().limits(limits);
    let bad = [
        ("argv", Command::new("")),
        ("argv", plain().arg("nul\0byte")),
        ("argv", plain().arg("x".repeat(200_000))),
        ("argv", plain().args(vec!["x".repeat(100_000); 70])),
        ("env", plain().env("", "x")),
        ("env", plain().env("a=b", "x")),
        ("env", plain().env("a", "nul\0byte")),
        ("cwd", plain().cwd("relative")),
        ("cwd", plain().cwd("/nul\0byte")),
        ("files_in", plain().file_in("../escape", "x", 0o644)),
        ("files_in", plain().file_in("directory/", "x", 0o644)),
        ("files_out", plain().file_out("../escape", 1)),
        ("limits.wall_time", zero(Limits::new().wall_time(Duration::ZERO))),
        ("limits.memory", zero(Limits::new().memory(0))),
        ("limits.processes", zero(Limits::new().processes(0))),
    ];
    for (field, command) in bad {
        let error = executor.exec(&command).await.expect_err(field);
        assert_eq!((error.stage(), error.kind()), (Stage::Check, ErrorKind::InvalidCommand { field }));
        assert!(error.leaves_usable(), "{error}");
        let error = executor.spawn(&command).await.map(drop).expect_err(field);
        assert_eq!(error.kind(), ErrorKind::InvalidCommand { field });
        assert_usable(&executor).await;
    }
}

/// Time is measured, processor time as well where it can be limited; and numbers are of the right size.
pub async fn usage_names_its_sources<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    let usage = run(&executor, &Command::shell(script)).await.usage;
    let wall_time = usage.wall_time.expect("wall time is measured").value;
    assert!(wall_time > Duration::ZERO);
    let limited = !matches!(executor.support().enforcement(Limit::CpuTime), Enforcement::No(_));
    let Some(cpu_time) = usage.cpu_time else {
        return assert!(!limited, "processor time is limited, and so is measured");
    };
    assert!(cpu_time.value > Duration::ZERO && cpu_time.value <= wall_time * 64, "{usage:?}");
}
