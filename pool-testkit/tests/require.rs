//! What becomes of a test whose needs are not met: it runs as a child process here.

use std::process::{Command, Output};

use poolyard_testkit::availability::{Availability, REQUIRE, require};

/// Set in the child, which is this test binary again.
const CHILD: &str = "POOLYARD_TESTKIT_CHILD";

/// The test that needs something, with `required` in `POOLYARD_REQUIRE`.
fn child(test: &str, required: &str) -> Output {
    let this = std::env::current_exe().expect("a test has an executable");
    let mut command = Command::new(this);
    command.args(["--exact", test]).env(CHILD, "1").env(REQUIRE, required);
    command.output().expect("this binary can be started again")
}

fn needs_an_engine() {
    let engine = Availability::when(false, "no engine is installed; install one");
    assert!(!require("test_engine", &engine), "what is missing cannot be used");
}

#[test]
fn what_is_missing_is_skipped_by_name_past_the_capture_of_output() {
    if std::env::var_os(CHILD).is_some() {
        return needs_an_engine();
    }
    let output = child("what_is_missing_is_skipped_by_name_past_the_capture_of_output", "docker");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("skipped: test_engine: no engine is installed; install one"), "{said}");
}

#[test]
fn what_is_missing_and_required_fails() {
    if std::env::var_os(CHILD).is_some() {
        return needs_an_engine();
    }
    let output = child("what_is_missing_and_required_fails", "docker,test-engine");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("test_engine is required by POOLYARD_REQUIRE, but missing: no engine"), "{said}");
}
