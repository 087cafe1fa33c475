//! A command while it runs: conversation, signals, waiting; and many commands in one executor.

use poolyard_exec::{Command, ErrorKind, Exec, Feature, Signal, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{assert_usable, line, plain, run};
use crate::exec::ExecHarness;

/// What is written arrives at once, and so does the answer, as often as one likes.
pub async fn a_conversation_is_streamed<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let script = "while read word; do echo \"you said $word\"; done; echo bye; exit 5";
    let mut process = executor.spawn(&Command::shell(script).stdin_piped()).await.expect("the shell starts");
    let mut stdin = process.take_stdin().expect("stdin is piped");
    let mut stdout = process.take_stdout().expect("not taken yet");
    for word in ["one", "two", "three"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await.expect("the program reads");
        stdin.flush().await.expect("the program reads");
        assert_eq!(line(&mut stdout).await, format!("you said {word}\n"));
    }
    stdin.shutdown().await.expect("a shutdown is the end of file");
    assert_eq!(line(&mut stdout).await, "bye\n");
    assert_eq!(process.wait().await.expect("the outcome is known").code(), Some(5));
}

/// A stream that is taken is the taker's; the other one is collected.
pub async fn what_is_taken_is_not_in_the_outcome<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let mut process =
        executor.spawn(&Command::shell("echo out; echo error >&2")).await.expect("the shell starts");
    assert!(process.take_stdin().is_none(), "stdin is not piped");
    let mut stdout = process.take_stdout().expect("not taken yet");
    assert!(process.take_stdout().is_none(), "a stream is taken once");
    let mut text = String::new();
    stdout.read_to_string(&mut text).await.expect("the stream ends");
    assert_eq!(text, "out\n");
    let outcome = process.wait().await.expect("the outcome is known");
    assert_eq!((&*outcome.stdout.text(), &*outcome.stderr.text()), ("", "error\n"));
}

/// A program whose output nobody reads waits; when it is read, all of it is there.
pub async fn an_unread_program_waits_and_loses_nothing<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let script = "head -c 1000000 /dev/zero; echo written >&2";
    let mut process = executor.spawn(&Command::shell(script)).await.expect("the shell starts");
    let mut stdout = process.take_stdout().expect("not taken yet");
    // One byte shows that the program writes; the rest stays where it is while another command runs.
    assert_eq!(stdout.read_u8().await.expect("a byte"), 0);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).await.expect("the stream ends");
    assert_eq!(rest.len(), 999_999);
    assert_eq!(process.wait().await.expect("the outcome is known").stderr.text(), "written\n");
}

/// A wait can be given up and taken up again.
pub async fn a_wait_that_is_dropped_loses_nothing<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let script = "echo first; read word; echo second >&2; exit 6";
    let command = Command::shell(script).stdin_piped();
    let mut process = executor.spawn(&command).await.expect("the shell starts");
    let stdin = process.take_stdin();
    tokio::select! {
        biased;
        outcome = process.wait() => panic!("the program reads: {outcome:?}"),
        () = tokio::task::yield_now() => {}
    }
    drop(stdin);
    let outcome = process.wait().await.expect("the outcome is known");
    assert_eq!((&*outcome.stdout.text(), &*outcome.stderr.text()), ("first\n", "second\n"));
    assert_eq!(outcome.code(), Some(6));
    let again = process.wait().await.expect_err("the outcome is given once");
    assert_eq!(again.kind(), ErrorKind::Ended);
}

/// A signal is delivered to the main process, which may handle it; or signals are refused by name.
pub async fn a_signal_reaches_the_program<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let script = "trap 'echo caught; exit 7' USR1; echo ready; sleep 300 & wait";
    let mut process = executor.spawn(&Command::shell(script)).await.expect("the shell starts");
    let mut stdout = process.take_stdout().expect("not taken yet");
    assert_eq!(line(&mut stdout).await, "ready\n");
    let sent = process.signal(Signal::USR1).await;
    if executor.support().missing(Feature::Signal).is_some() {
        let error = sent.expect_err("signals are missing");
        return assert_eq!(error.kind(), ErrorKind::UnsupportedFeature(Feature::Signal));
    }
    sent.expect("the program runs");
    assert_eq!(line(&mut stdout).await, "caught\n");
    assert_eq!(process.wait().await.expect("the outcome is known").code(), Some(7));
}

/// A late signal hits nobody, and a late kill changes no verdict.
pub async fn after_the_end_signals_are_refused_and_kills_do_nothing<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let mut process = executor.spawn(&Command::shell("exit 8")).await.expect("the shell starts");
    let control = process.control();
    let outcome = process.wait().await.expect("the outcome is known");
    assert_eq!(outcome.verdict, Verdict::Exited { code: 8 });
    let error = control.signal(Signal::TERM).await.expect_err("the command has ended");
    assert!(
        matches!(error.kind(), ErrorKind::Ended | ErrorKind::UnsupportedFeature(Feature::Signal)),
        "{error}"
    );
    control.kill();
    drop(process);
    assert_usable(&executor).await;
}

/// One executor runs many commands, and each gets its own answer.
pub async fn many_commands_run_one_after_the_other<H: ExecHarness>() {
    let executor = plain::<H>().await;
    for number in 0..100 {
        let outcome = run(&executor, &Command::shell("echo $N; exit $N").env("N", number.to_string())).await;
        assert_eq!(outcome.stdout.text(), format!("{number}\n"));
        assert_eq!(outcome.code(), Some(number));
    }
}

/// Commands at the same time get each its own answer; an executor that takes one at a time says
/// [`Busy`](ErrorKind::Busy).
pub async fn commands_run_side_by_side_or_are_told_to_wait<H: ExecHarness>() {
    let executor = &plain::<H>().await;
    let command = |number: i32| Command::shell("cat; exit $N").env("N", number.to_string());
    let one = async |number: i32| {
        let input = format!("{number}").repeat(10_000);
        let command = command(number).stdin_bytes(&input);
        match executor.exec(&command).await {
            Ok(outcome) => {
                assert!(outcome.code() == Some(number) && outcome.stdout.text() == input, "{number}")
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
        }
    };
    tokio::join!(one(0), one(1), one(2), one(3), one(4), one(5), one(6), one(7));
    assert_usable(executor).await;
}

/// With a terminal, the program sees one of the right size; or the wish is refused.
pub async fn a_terminal_is_given_or_refused_by_name<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo terminal; echo error >&2";
    let command = Command::shell(script).tty(33, 99);
    if executor.support().missing(Feature::Tty).is_some() {
        let error = executor.exec(&command).await.expect_err("there is no terminal");
        return assert_eq!(error.kind(), ErrorKind::UnsupportedFeature(Feature::Tty));
    }
    let outcome = run(&executor, &command).await;
    assert_eq!(outcome.stdout.text(), "terminal\r\nerror\r\n");
    assert!(outcome.stderr.bytes.is_empty(), "everything is standard output: {outcome:?}");
    assert_usable(&executor).await;
}
