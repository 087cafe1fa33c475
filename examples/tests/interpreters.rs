//! What the interpreters of the examples promise in a pool.

use std::time::Duration;

use poolyard::{Lease, Pool, Reason};
use poolyard_examples::interpreter::{Interpreter, InterpreterError, Interpreters, Language};
use poolyard_testkit::availability::{Availability, require};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

/// Longer than anything here takes; a test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn pool() -> Pool<Interpreters> {
    Pool::builder(Interpreters).max_total(1).build().expect("the configuration is possible")
}

fn signal(interpreter: &Interpreter, signal: Signal) {
    let pid = Pid::from_raw(interpreter.pid().cast_signed()).expect("a process has an id");
    kill_process(pid, signal).expect("the interpreter runs");
}

fn python_is_there() -> bool {
    let found = Language::Python.is_installed();
    let remedy = "there is no python3 in the PATH; install the package python3";
    require("python3", &Availability::when(found, remedy))
}

#[tokio::test]
async fn the_shell_calculates_too_and_survives_a_bad_expression() {
    let pool = pool();
    let mut shell = pool.acquire(&Language::Shell).await.unwrap();
    assert_eq!(shell.evaluate("6 * 7").await.unwrap(), "42");
    assert!(matches!(shell.evaluate("6 *").await, Err(InterpreterError::Refused(_))));
    assert_eq!(shell.evaluate("2 + 2").await.unwrap(), "4");
    Lease::release(shell).await.unwrap();
}

#[tokio::test]
async fn the_same_process_serves_the_next_user_without_the_names_of_the_last() {
    if !python_is_there() {
        return;
    }
    let pool = pool();
    let mut first = pool.acquire(&Language::Python).await.unwrap();
    let pid = first.pid();
    assert_eq!(first.evaluate("(secret := 41) + 1").await.unwrap(), "42");
    drop(first);
    let mut second = pool.acquire(&Language::Python).await.unwrap();
    assert_eq!(second.pid(), pid);
    let error = second.evaluate("secret").await.unwrap_err();
    assert!(matches!(error, InterpreterError::Refused(why) if why.contains("NameError")));
}

#[tokio::test]
async fn an_interpreter_that_cannot_be_cleaned_is_not_used_again() {
    if !python_is_there() {
        return;
    }
    let changes = [
        "__import__('os').environ.update(MARK='1')",
        "__import__('os').chdir('/proc')",
        "__import__('colorsys')",
        "__builtins__.update(mark=1)",
        "__import__('threading').Timer(60, print).start()",
    ];
    for change in changes {
        let pool = pool();
        let mut interpreter = pool.acquire(&Language::Python).await.unwrap();
        interpreter.evaluate(change).await.unwrap();
        assert_eq!(Lease::release(interpreter).await, Err(Reason::RecycleFailed), "{change}");
    }
}

#[tokio::test]
async fn what_an_expression_prints_or_reads_does_not_disturb_the_protocol() {
    if !python_is_there() {
        return;
    }
    let pool = pool();
    let mut interpreter = pool.acquire(&Language::Python).await.unwrap();
    assert_eq!(interpreter.evaluate("print('clean 1')").await.unwrap(), "None");
    assert_eq!(interpreter.evaluate("__import__('sys').stdin.read()").await.unwrap(), "''");
    Lease::release(interpreter).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_waited_for_does_not_reach_the_next_user() {
    if !python_is_there() {
        return;
    }
    let pool = pool();
    let mut interpreter = pool.acquire(&Language::Python).await.unwrap();
    let pid = interpreter.pid();
    // Stopped, it cannot have answered before the user goes away.
    signal(&interpreter, Signal::STOP);
    assert!(timeout(Duration::from_millis(50), interpreter.evaluate("6 * 7")).await.is_err());
    signal(&interpreter, Signal::CONT);
    assert_eq!(Lease::release(interpreter).await, Err(Reason::RecycleFailed));
    let mut next = pool.acquire(&Language::Python).await.unwrap();
    assert_ne!(next.pid(), pid);
    assert_eq!(next.evaluate("1 + 1").await.unwrap(), "2");
}

#[tokio::test]
async fn the_user_of_an_interpreter_that_dies_is_told() {
    let pool = pool();
    let shell = pool.acquire(&Language::Shell).await.unwrap();
    signal(&shell, Signal::KILL);
    let cause = timeout(PATIENCE, Lease::gone(&shell)).await.expect("the report comes by itself");
    assert!(cause.contains("signal: 9"), "{cause}");
    assert_eq!(Lease::release(shell).await, Err(Reason::Gone));
}
