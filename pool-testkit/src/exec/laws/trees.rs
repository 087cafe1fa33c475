//! Whole trees of processes: whatever ends a command ends everything that it started.

use std::time::Duration;

use poolyard_exec::{Command, Exec, Limit, Limits, Verdict};

use super::limits::executor_for;
use super::{assert_usable, line, marker, plain, run, tree, until_alive, until_gone};
use crate::exec::ExecHarness;

/// Nothing of the command lives after its time is over, and the verdict says why.
pub async fn wall_time_ends_the_whole_tree<H: ExecHarness>() {
    let limits = Limits::new().wall_time(Duration::from_millis(1000));
    let Some(executor) = executor_for::<H>(Limit::WallTime, &limits).await else { return };
    let marker = marker();
    let outcome = run(&executor, &tree(&marker, 3).limits(limits)).await;
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::WallTime), "{outcome:?}");
    assert_eq!(outcome.stdout.text(), "ready\n", "what was written before is kept");
    assert_eq!(H::survivors(&marker).await, 0, "the outcome comes after the last process");
    assert_usable(&executor).await;
}

/// A kill ends everything, and the verdict says that it was asked for.
pub async fn a_kill_ends_the_whole_tree<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let marker = marker();
    let mut process = executor.spawn(&tree(&marker, 3)).await.expect("the shell starts");
    let mut stdout = process.take_stdout().expect("not taken yet");
    assert_eq!(line(&mut stdout).await, "ready\n");
    until_alive::<H>(&marker, 4).await;
    process.kill();
    process.kill();
    let outcome = process.wait().await.expect("the outcome is known");
    assert_eq!(outcome.verdict, Verdict::Cancelled);
    assert_eq!(H::survivors(&marker).await, 0, "the outcome comes after the last process");
    assert_usable(&executor).await;
}

/// A command ends with its main process; what is left of it is killed, and what it wrote is read.
pub async fn what_a_command_leaves_running_is_killed<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let marker = marker();
    let script =
        "sh -c 'i=0; while [ $i -lt 30 ]; do sleep 1; i=$((i+1)); done' \"$0\" & echo parent; exit 4";
    let outcome = run(&executor, &Command::shell(script).arg(&marker)).await;
    assert_eq!(outcome.code(), Some(4));
    assert!(outcome.stdout.text().contains("parent\n"), "{outcome:?}");
    assert_eq!(H::survivors(&marker).await, 0, "the outcome comes after the last process");
}

/// Leaving the process group, the session and the parent does not save a process.
pub async fn a_process_in_a_session_of_its_own_is_killed_too<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let marker = marker();
    let script = "(setsid sh -c 'echo ready; i=0; while [ $i -lt 30 ]; do sleep 1; i=$((i+1)); done' \"$0\" &); read line";
    let command = Command::shell(script).arg(&marker).stdin_piped();
    let mut process = executor.spawn(&command).await.expect("the shell starts");
    let mut stdout = process.take_stdout().expect("not taken yet");
    assert_eq!(line(&mut stdout).await, "ready\n");
    let outcome = process.wait().await.expect("the outcome is known");
    assert!(outcome.code().is_some(), "{outcome:?}");
    assert_eq!(H::survivors(&marker).await, 0, "the outcome comes after the last process");
}

/// A dropped future of `exec` ends the command, and the executor is usable.
pub async fn a_dropped_exec_leaves_nothing_running<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let marker = marker();
    let command = tree(&marker, 3);
    tokio::select! {
        outcome = executor.exec(&command) => panic!("the program runs until it is killed: {outcome:?}"),
        () = until_alive::<H>(&marker, 4) => {}
    }
    until_gone::<H>(&marker).await;
    assert_usable(&executor).await;
}

/// A dropped process is ended, and the executor is usable; also where its streams are still held.
pub async fn a_dropped_process_leaves_nothing_running<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let marker = marker();
    let mut process = executor.spawn(&tree(&marker, 3).stdin_piped()).await.expect("the shell starts");
    let streams = (process.take_stdin(), process.take_stdout(), process.take_stderr());
    until_alive::<H>(&marker, 4).await;
    drop(process);
    until_gone::<H>(&marker).await;
    drop(streams);
    assert_usable(&executor).await;
}
