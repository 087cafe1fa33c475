//! What arrives in the program: arguments, environment, directory.

use poolyard_exec::{Command, ErrorKind, Exec, Feature};

use super::{plain, run, text};
use crate::exec::ExecHarness;

/// Every byte of every argument arrives, and the number of arguments.
pub async fn arguments_arrive_unchanged<H: ExecHarness>() {
    let arguments: [&[u8]; 7] = [b"", b"a b", b"\"'`$x\\", b"new\nline", b"-e", b"\xff\xfe", b"*"];
    let executor = plain::<H>().await;
    let script = "for argument; do printf '[%s]' \"$argument\"; done";
    let outcome = run(&executor, &Command::shell(script).arg("sh").args(arguments)).await;
    let expected: Vec<u8> = arguments.iter().flat_map(|argument| [b"[", *argument, b"]"].concat()).collect();
    assert_eq!(outcome.stdout.bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

/// No variable is there that the command does not set.
pub async fn the_environment_is_what_the_command_says<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let command = Command::new("env").env("EMPTY", "").env("SPACED", "a b=c").env("PATH", "/bin:/usr/bin");
    let outcome = run(&executor, &command).await;
    let text = outcome.stdout.text();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["EMPTY=", "PATH=/bin:/usr/bin", "SPACED=a b=c"]);
}

/// A variable that is set twice has the second value, once.
pub async fn the_last_variable_of_a_name_counts<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let outcome = run(&executor, &Command::new("env").env("A", "old").env("A", "new")).await;
    assert_eq!(outcome.stdout.text(), "A=new\n");
}

/// A command's variables come on top of the resource's own, or the wish is refused.
pub async fn an_inherited_environment_is_given_or_refused_by_name<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let command = Command::new("env").inherit_env().env("OWN", "1");
    if executor.support().missing(Feature::InheritEnv).is_some() {
        let error = executor.exec(&command).await.expect_err("an environment to inherit is missing");
        assert_eq!(error.kind(), ErrorKind::UnsupportedFeature(Feature::InheritEnv));
        return;
    }
    let outcome = run(&executor, &command).await;
    assert!(outcome.stdout.text().lines().any(|line| line == "OWN=1"), "{outcome:?}");
}

/// Without a directory, the command starts in the one that the executor names.
pub async fn a_command_starts_in_the_work_directory<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let directory = text(&executor, "pwd").await;
    assert_eq!(directory.trim_end().as_bytes(), executor.support().work_dir());
}

/// With a directory, the command starts there.
pub async fn a_command_starts_where_it_says<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let outcome = run(&executor, &Command::new("pwd").cwd("/")).await;
    assert_eq!(outcome.stdout.text(), "/\n");
}

/// A program without a slash is found by the command's `PATH`, in its order; one with a slash is not searched.
pub async fn a_program_is_searched_in_the_commands_own_path<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let work_dir = String::from_utf8_lossy(executor.support().work_dir()).into_owned();
    let path = format!("{work_dir}/none:{work_dir}/first:{work_dir}/second");
    let command = |program: &str| {
        Command::new(program)
            .env("PATH", &path)
            .file_in("first/tool", "#!/bin/sh\necho first\n", 0o755)
            .file_in("second/tool", "#!/bin/sh\necho second\n", 0o755)
    };
    assert_eq!(run(&executor, &command("tool")).await.stdout.text(), "first\n");
    assert_eq!(run(&executor, &command("second/tool")).await.stdout.text(), "second\n");
    assert_eq!(run(&executor, &command("./second/tool")).await.stdout.text(), "second\n");
}
