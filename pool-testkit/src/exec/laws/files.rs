//! Files into the executor and out of it.

use poolyard_exec::{Command, ErrorKind, Exec, FileState, Stage};

use super::{assert_usable, plain, run};
use crate::exec::ExecHarness;

/// Files are there with their whole content, in directories that were missing, and can be read.
pub async fn files_are_there_when_the_program_starts<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let large: Vec<u8> = (0_u32..100_000).flat_map(u32::to_le_bytes).collect();
    let command = Command::shell("cat a/b/deep 'name with space' empty; cat large >&2")
        .file_in("a/b/deep", "deep,", 0o600)
        .file_in("name with space", "space", 0o400)
        .file_in("empty", "", 0o644)
        .file_in("large", &large, 0o644);
    let outcome = run(&executor, &command).await;
    assert!(outcome.success(), "{:?}", outcome.verdict);
    assert_eq!(outcome.stdout.text(), "deep,space");
    assert!(outcome.stderr.bytes == large, "a large file arrives whole");
}

/// The mode is exactly the one that was asked for, whatever the umask; a script can be run.
pub async fn files_have_the_mode_that_was_asked_for<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let command = Command::new("./script")
        .file_in("script", "#!/bin/sh\nfor f in script data; do set -- $(ls -l $f); echo $1; done\n", 0o755)
        .file_in("data", "", 0o666);
    let outcome = run(&executor, &command).await;
    let text = outcome.stdout.text();
    // A mark for an access list or a label may follow.
    let modes: Vec<&str> = text.lines().map(|line| &line[..10.min(line.len())]).collect();
    assert_eq!(modes, ["-rwxr-xr-x", "-rw-rw-rw-"], "{outcome:?}");
}

/// A second command's file of the same name has the second content, even where the first was read-only or
/// the program has put a link there.
pub async fn a_file_replaces_one_that_is_there<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let show = |content: &str| Command::new("cat").arg("file").file_in("file", content, 0o400);
    assert_eq!(run(&executor, &show("a longer first")).await.stdout.text(), "a longer first");
    assert_eq!(run(&executor, &show("second")).await.stdout.text(), "second");
    let relink = "echo other > other; ln -sf other file; cat file";
    assert_eq!(run(&executor, &Command::shell(relink)).await.stdout.text(), "other\n");
    let look = Command::shell("cat file").file_in("file", "third", 0o644).file_out("file", 100);
    let outcome = run(&executor, &look).await;
    assert_eq!(outcome.stdout.text(), "third");
    assert_eq!(outcome.file("file"), Some(&b"third"[..]));
}

/// A directory in the way of a file, or a file in the way of a directory, is an error before the start.
pub async fn a_file_whose_path_is_blocked_is_an_error<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let setup = Command::new("mkdir").arg("directory").file_in("file", "x", 0o644);
    assert!(run(&executor, &setup).await.success());
    for path in ["directory", "file/below"] {
        let command = Command::shell("echo ran").file_in(path, "x", 0o644);
        let error = executor.exec(&command).await.expect_err(path);
        assert_eq!((error.stage(), error.kind()), (Stage::CopyIn, ErrorKind::CopyInFailed), "{error}");
        assert!(error.to_string().contains(path), "{error}");
        assert_usable(&executor).await;
    }
}

/// Collected files come in the order they were asked for, also after a failure and a signal.
pub async fn files_are_collected_whatever_the_verdict<H: ExecHarness>() {
    let executor = plain::<H>().await;
    for end in ["exit 0", "exit 3", "kill -9 $$"] {
        let script = format!("echo two > two; mkdir -p d; printf one > d/one; {end}");
        let command = Command::shell(script).file_out("d/one", 100).file_out("none", 100).file_out("two", 4);
        let outcome = run(&executor, &command).await;
        let paths: Vec<&[u8]> = outcome.files.iter().map(|file| &*file.path).collect();
        assert_eq!(paths, [&b"d/one"[..], b"none", b"two"], "after {end}");
        assert_eq!(outcome.file("d/one"), Some(&b"one"[..]), "after {end}");
        assert_eq!(outcome.files[1].state, FileState::Missing, "after {end}");
        assert_eq!(outcome.file("two"), Some(&b"two\n"[..]), "exactly as long as allowed");
    }
}

/// A file that is longer than wanted is cut off, and says so.
pub async fn a_file_that_is_too_long_is_cut_off<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let command = Command::shell("printf 0123456789 > file; chmod 640 file").file_out("file", 4);
    let outcome = run(&executor, &command).await;
    let expected = FileState::Found { bytes: b"0123".to_vec(), mode: 0o640, truncated: true };
    assert_eq!(outcome.files[0].state, expected);
}

/// Only regular files are collected. A link could lead out, and a pipe would never end.
pub async fn links_directories_and_pipes_are_not_collected<H: ExecHarness>() {
    let executor = plain::<H>().await;
    let script = "echo x > target; ln -s target link; ln -s /etc/passwd out; mkdir directory; mkfifo pipe";
    let names = ["link", "out", "directory", "pipe"];
    let command = names.iter().fold(Command::shell(script), |command, name| command.file_out(name, 100));
    let outcome = run(&executor, &command).await;
    assert!(outcome.success(), "{outcome:?}");
    for (name, file) in names.iter().zip(&outcome.files) {
        assert_eq!(file.state, FileState::NotAFile, "{name}");
    }
}
