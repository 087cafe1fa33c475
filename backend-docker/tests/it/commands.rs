//! Commands in a pooled container.

use std::time::Duration;

use poolyard_exec::{Command, Exec, Limit, Limits, Verdict};

use crate::engine::{manager, pool_of, sandbox};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_and_its_output_and_code_come_back() {
    let Some(manager) = manager() else { return };
    let pool = pool_of(&manager, 2);
    let container = pool.acquire(&sandbox()).await.unwrap();
    let command = Command::shell("cat; echo err >&2; exit 3").stdin_bytes("in").env("PATH", "/bin");
    let outcome = container.exec(&command).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exited { code: 3 });
    assert_eq!((outcome.stdout.text(), outcome.stderr.text()), ("in".into(), "err\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_over_its_time_ends_with_its_whole_tree() {
    let Some(manager) = manager() else { return };
    let pool = pool_of(&manager, 2);
    let container = pool.acquire(&sandbox()).await.unwrap();
    let limits = Limits::new().wall_time(Duration::from_millis(300));
    let script = "setsid sh -c 'sleep 1000 & sleep 1000' & (sleep 1000 &) ; sleep 1000";
    let command = Command::shell(script).env("PATH", "/bin").limits(limits);
    let outcome = container.exec(&command).await.unwrap();
    assert_eq!(outcome.verdict, Verdict::Exceeded(Limit::WallTime));
    let left = container.exec(&Command::shell("ps | grep -c '[s]leep'").env("PATH", "/bin")).await.unwrap();
    assert_eq!(left.stdout.text(), "0\n");
}
