//! What the program reads.

use poolyard_exec::{Command, ErrorKind, Exec};

use super::{assert_usable, plain, run};
use crate::exec::ExecHarness;

/// More than any pipe holds, and without a short period.
fn much() -> Vec<u8> {
    (0_u32..300_000).flat_map(u32::to_le_bytes).collect()
}

/// Every byte that is given arrives, although the program writes as much at the same time.
pub async fn stdin_arrives_whole<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let outcome = run(&executor, &Command::new("cat").stdin_bytes(much())).await;
    assert!(outcome.success(), "{:?}", outcome.verdict);
    assert!(outcome.stdout.bytes == much(), "what went in comes out");
}

/// Without input the program reads an end of file, not what the executor itself reads.
pub async fn stdin_is_empty_unless_something_is_given<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let outcome = run(&executor, &Command::new("cat")).await;
    assert!(outcome.success() && outcome.stdout.bytes.is_empty(), "{outcome:?}");
}

/// A program that ends without reading is judged by its own end.
pub async fn a_program_need_not_read_its_stdin<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let outcome = run(&executor, &Command::new("true").stdin_bytes(much())).await;
    assert!(outcome.success(), "{outcome:?}");
    assert_usable(&executor).await;
}

/// A stream is read while the program runs, to its end.
pub async fn a_stream_can_be_fed<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let source = much();
    let outcome = executor.exec_with_stdin(&Command::new("cat"), &source[..]).await.expect("cat runs");
    assert!(outcome.success() && outcome.stdout.bytes == source, "{:?}", outcome.verdict);
    let endless = tokio::io::repeat(b'x');
    let outcome = executor.exec_with_stdin(&Command::new("true"), endless).await.expect("true runs");
    assert!(outcome.success(), "a source without end ends with the program: {outcome:?}");
}

/// `exec` hands out no stream, so it refuses to wait for one.
pub async fn exec_refuses_a_piped_stdin<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let error = executor.exec(&Command::new("cat").stdin_piped()).await.expect_err("nobody could write");
    assert_eq!(error.kind(), ErrorKind::InvalidCommand { field: "stdin" });
    assert_usable(&executor).await;
}
