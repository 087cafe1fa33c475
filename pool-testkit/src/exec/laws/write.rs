//! What the program writes.

use poolyard_exec::Command;

use super::{plain, run};
use crate::exec::ExecHarness;

/// Standard output and standard error arrive each in its own place.
pub async fn the_two_streams_are_kept_apart<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let outcome = run(&executor, &Command::shell("echo out; echo error >&2; echo more")).await;
    assert_eq!(outcome.stdout.text(), "out\nmore\n");
    assert_eq!(outcome.stderr.text(), "error\n");
}

/// Megabytes on both streams at the same time arrive to the last byte.
pub async fn large_output_arrives_whole<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let script = "head -c 3000000 /dev/zero & head -c 2000000 /dev/zero >&2; wait; echo end";
    let outcome = run(&executor, &Command::shell(script)).await;
    assert_eq!(outcome.stdout.bytes.len(), 3_000_004);
    assert!(outcome.stdout.bytes.ends_with(b"\0end\n"));
    assert_eq!(outcome.stderr.bytes.len(), 2_000_000);
    assert!(!outcome.stdout.truncated && !outcome.stderr.truncated);
}

/// Capturing less than is written keeps the first bytes, says so, and does not disturb the program.
pub async fn what_is_over_the_capture_is_dropped_and_the_program_goes_on<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let script = "printf 0123456789; head -c 1000000 /dev/zero; echo done >&2; exit 3";
    let outcome = run(&executor, &Command::shell(script).capture(10)).await;
    assert_eq!(outcome.stdout.text(), "0123456789");
    assert!(outcome.stdout.truncated);
    assert_eq!(outcome.stderr.text(), "done\n");
    assert!(!outcome.stderr.truncated);
    assert_eq!(outcome.code(), Some(3));
}
