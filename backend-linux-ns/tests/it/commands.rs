//! Commands, their streams and files, and what is said about bad ones.

use std::os::fd::OwnedFd;

use poolyard_exec::{Command, ErrorKind, Exec, ExecFds, Fds, FileState, Limits, Signal, Verdict};
use poolyard_linux_ns::{Background, ErrorKind as Kind, LinuxNs, SandboxSpec, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{backend, printed, run, sandbox, sandbox_of, shell};

#[tokio::test]
async fn a_command_runs_and_tells_its_output_and_code() {
    let Some(ns) = backend("a_command_runs") else { return };
    let sandbox = sandbox(&ns).await;
    let outcome = shell(&sandbox, "echo out; echo err >&2; exit 3").await;
    assert_eq!(outcome.verdict, Verdict::Exited { code: 3 });
    assert_eq!((outcome.stdout.text().as_ref(), outcome.stderr.text().as_ref()), ("out\n", "err\n"));
}

#[tokio::test]
async fn arguments_environment_directory_and_input_arrive_as_they_are() {
    let Some(ns) = backend("arguments") else { return };
    let sandbox = sandbox(&ns).await;
    let command = Command::shell("printf '%s|' \"$@\" \"$A\" \"$PWD\"; cat").args(["", "a b", "*"]);
    let command = command.env("A", "1 2").cwd("/tmp").stdin_bytes("in\0put");
    let outcome = run(&sandbox, &command).await;
    assert_eq!(outcome.stdout.bytes, b"a b|*|1 2|/tmp|in\0put", "the first argument is the script's name");
}

#[tokio::test]
async fn words_that_fill_more_than_a_frame_arrive() {
    let Some(ns) = backend("long words") else { return };
    let sandbox = sandbox(&ns).await;
    let command = Command::shell("printf '%s' \"$*\" | wc -c").args(vec!["x".repeat(100_000); 8]);
    let outcome = run(&sandbox, &command.stdin_bytes(vec![b'y'; 1 << 20])).await;
    assert_eq!(outcome.stdout.text(), "700006\n");
}

#[tokio::test]
async fn a_command_has_exactly_its_three_descriptors() {
    let Some(ns) = backend("descriptors") else { return };
    let sandbox = sandbox(&ns).await;
    // `ls` opens one more to read the directory with.
    assert_eq!(printed(&sandbox, "ls /proc/self/fd").await, "0\n1\n2\n3");
    let stdin = run(&sandbox, &Command::new("ls").arg("/proc/self/fd").stdin_bytes("x")).await;
    assert_eq!(stdin.stdout.text(), "0\n1\n2\n3\n");
}

#[tokio::test]
async fn descriptors_of_the_host_arrive_at_their_numbers() {
    let Some(ns) = backend("host descriptors") else { return };
    let sandbox = sandbox(&ns).await;
    let (ours, theirs) = std::io::pipe().unwrap();
    let fds = Fds::new().give(7, OwnedFd::from(theirs));
    let command = Command::shell("echo seven >&7; ls /proc/self/fd | tr '\\n' ' '");
    let mut process = sandbox.spawn_with_fds(&command, fds).await.unwrap();
    let outcome = process.wait().await.unwrap();
    assert_eq!(std::io::read_to_string(ours).unwrap(), "seven\n");
    assert_eq!(outcome.stdout.text().trim_end(), "0 1 2 3 7");
}

#[tokio::test]
async fn a_spawned_command_answers_while_it_runs() {
    let Some(ns) = backend("interactive") else { return };
    let sandbox = sandbox(&ns).await;
    let mut process = sandbox.spawn(&Command::new("cat").stdin_piped()).await.unwrap();
    let (mut stdin, mut stdout) = (process.take_stdin().unwrap(), process.take_stdout().unwrap());
    for word in [b"first", b"again"] {
        stdin.write_all(word).await.unwrap();
        let mut answer = [0; 5];
        stdout.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, word);
    }
    stdin.shutdown().await.unwrap();
    assert!(process.wait().await.unwrap().success());
}

#[tokio::test]
async fn two_sandboxes_talk_through_a_pipe() {
    let Some(ns) = backend("pipe between sandboxes") else { return };
    let (a, b) = (sandbox(&ns).await, sandbox(&ns).await);
    let (read, write) = std::io::pipe().unwrap();
    let writer = Command::shell("seq 100000");
    let mut writer = a.spawn_with_fds(&writer, Fds::new().give(1, OwnedFd::from(write))).await.unwrap();
    let reader = Command::new("wc").arg("-l");
    let mut reader = b.spawn_with_fds(&reader, Fds::new().give(0, OwnedFd::from(read))).await.unwrap();
    assert!(writer.wait().await.unwrap().success());
    assert_eq!(reader.wait().await.unwrap().stdout.text(), "100000\n");
}

#[tokio::test]
async fn several_commands_of_one_lease_run_side_by_side_and_share_files() {
    let Some(ns) = backend("side by side") else { return };
    let sandbox = sandbox(&ns).await;
    // The first can only end if the second runs meanwhile.
    let waits = Command::shell("mkfifo p; cat p");
    let writes = Command::shell("until [ -p p ]; do sleep 0.01; done; echo hello > p");
    let (waits, writes) = tokio::join!(sandbox.exec(&waits), sandbox.exec(&writes));
    assert_eq!(waits.unwrap().stdout.text(), "hello\n");
    assert!(writes.unwrap().success());
    assert_eq!(printed(&sandbox, "ls").await, "p", "files stay until the lease ends");
}

#[tokio::test]
async fn a_terminal_is_a_terminal_with_its_size() {
    let Some(ns) = backend("terminal") else { return };
    let sandbox = sandbox(&ns).await;
    let command = Command::shell("tty >/dev/null && stty size && read line && echo got $line");
    let mut process = sandbox.spawn(&command.tty(33, 101).stdin_piped()).await.unwrap();
    let mut stdin = process.take_stdin().unwrap();
    stdin.write_all(b"typed\n").await.unwrap();
    let text = process.wait().await.unwrap();
    let text = text.stdout.text().replace("\r\n", "\n");
    assert!(text.contains("33 101\n") && text.contains("got typed\n"), "{text}");
}

#[tokio::test]
async fn signals_reach_the_command_and_nobody_after_its_end() {
    let Some(ns) = backend("signals") else { return };
    let sandbox = sandbox(&ns).await;
    let script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut process = sandbox.spawn(&Command::shell(script)).await.unwrap();
    let mut ready = [0; 6];
    let mut stdout = process.take_stdout().unwrap();
    stdout.read_exact(&mut ready).await.unwrap();
    process.signal(Signal::TERM).await.unwrap();
    assert_eq!(process.wait().await.unwrap().verdict, Verdict::Exited { code: 5 });
    assert_eq!(process.signal(Signal::TERM).await.unwrap_err().kind(), ErrorKind::Ended);
}

#[tokio::test]
async fn a_command_that_aborts_is_seen_to_abort() {
    let Some(ns) = backend("abort") else { return };
    let sandbox = sandbox(&ns).await;
    let outcome = shell(&sandbox, "kill -ABRT $$").await;
    assert_eq!(outcome.verdict, Verdict::Signaled { signal: Signal::ABRT });
    let outcome = shell(&sandbox, "kill -TERM $$").await;
    assert_eq!(outcome.verdict, Verdict::Signaled { signal: Signal::TERM }, "it is not pid 1");
}

#[tokio::test]
async fn files_go_in_and_come_out_and_links_are_not_followed() {
    let Some(ns) = backend("files") else { return };
    let sandbox = sandbox(&ns).await;
    let script = "cat deep/in; cp deep/in out; chmod 751 out; ln -s /etc/passwd link; ln -s / up; mkfifo pipe; mkdir dir";
    let command = Command::shell(script).file_in("deep/in", "content", 0o644);
    let wanted = ["out", "missing", "link", "up/etc/passwd", "pipe", "dir", "/tmp/none"];
    let command = wanted.into_iter().fold(command, |command, path| command.file_out(path, 4));
    let outcome = run(&sandbox, &command).await;
    assert_eq!(outcome.stdout.text(), "content");
    let found = FileState::Found { bytes: b"cont".to_vec(), mode: 0o751, truncated: true };
    let states: Vec<_> = outcome.files.into_iter().map(|file| file.state).collect();
    let not_a_file = FileState::NotAFile;
    let expected = [
        found,
        FileState::Missing,
        not_a_file.clone(),
        not_a_file.clone(),
        not_a_file.clone(),
        not_a_file,
        FileState::Missing,
    ];
    assert_eq!(states, expected);
}

#[tokio::test]
async fn a_file_is_not_copied_in_through_a_link() {
    let Some(ns) = backend("copy in") else { return };
    let sandbox = sandbox(&ns).await;
    shell(&sandbox, "ln -s /tmp away; ln -s /tmp/x file").await;
    // A link in the file's own place is replaced.
    run(&sandbox, &Command::new("true").file_in("file", "x", 0o644)).await;
    assert_eq!(printed(&sandbox, "cat file").await, "x");
    for path in ["away/x", "/etc/x"] {
        let error = sandbox.exec(&Command::new("true").file_in(path, "x", 0o644)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CopyInFailed, "{path}: {error}");
    }
    assert_eq!(printed(&sandbox, "ls /tmp").await, "");
}

#[tokio::test]
async fn what_a_command_leaves_running_is_killed_unless_it_is_to_stay() {
    let Some(ns) = backend("background") else { return };
    let script = "setsid sleep 1000 >/dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done";
    let count = "grep -l sleep /proc/[0-9]*/comm 2>/dev/null | wc -l";
    let killing = sandbox(&ns).await;
    shell(&killing, script).await;
    assert_eq!(printed(&killing, count).await, "0");
    let keeping = sandbox_of(&ns, &SandboxSpec::builder().background(Background::Keep).build()).await;
    shell(&keeping, script).await;
    assert_eq!(printed(&keeping, count).await, "1");
}

#[tokio::test]
async fn a_bad_command_is_told_what_is_wrong_and_the_sandbox_stays_usable() {
    let Some(ns) = backend("bad commands") else { return };
    let sandbox = sandbox(&ns).await;
    let bad = [
        (Command::new("no-such-program"), ErrorKind::ProgramNotFound),
        (Command::new("/usr"), ErrorKind::NotExecutable),
        (Command::new("/etc/passwd"), ErrorKind::NotExecutable),
        (Command::new("a\0b"), ErrorKind::InvalidCommand { field: "argv" }),
        (Command::new("true").cwd("/missing"), ErrorKind::NoWorkingDirectory),
        (Command::new("true").cwd("relative"), ErrorKind::InvalidCommand { field: "cwd" }),
        (Command::new("true").arg("x".repeat(1 << 20)), ErrorKind::InvalidCommand { field: "argv" }),
        (Command::new("true").file_in(".", "", 0o644), ErrorKind::CopyInFailed),
        (Command::new("true").file_in("directory", "", 0o644), ErrorKind::CopyInFailed),
        (Command::new("true").file_in("pipe", "", 0o644), ErrorKind::CopyInFailed),
        (Command::new("true").file_in("/dev/null", "", 0o644), ErrorKind::CopyInFailed),
        (Command::new("true").file_in("a\0b", "", 0o644), ErrorKind::InvalidCommand { field: "files_in" }),
        (Command::new("true").env("A", "b\0c"), ErrorKind::InvalidCommand { field: "env" }),
        (Command::new("true").cwd("/box\0"), ErrorKind::InvalidCommand { field: "cwd" }),
        (Command::new("true").cwd("/etc/passwd"), ErrorKind::NoWorkingDirectory),
        (Command::new("./directory"), ErrorKind::NotExecutable),
        (
            Command::new("true").limits(Limits::new().open_files(0)),
            ErrorKind::InvalidCommand { field: "limits.open_files" },
        ),
    ];
    shell(&sandbox, "mkdir directory; mkfifo pipe").await;
    for (command, kind) in bad {
        for spawned in [false, true] {
            let error = match spawned {
                false => sandbox.exec(&command).await.unwrap_err(),
                true => sandbox.spawn(&command).await.unwrap_err(),
            };
            let invalid = matches!(error.kind(), ErrorKind::InvalidCommand { .. });
            assert!(
                error.kind() == kind || (invalid && kind == ErrorKind::CopyInFailed),
                "{command:?}: {error:?}"
            );
            assert!(error.leaves_usable(), "{error:?}");
        }
        assert_eq!(printed(&sandbox, "echo alive").await, "alive");
    }
}

#[tokio::test]
async fn a_bad_specification_is_told_what_is_wrong() {
    let Some(ns) = backend("bad specifications") else { return };
    let refused = async |spec: SandboxSpec| ns.sandbox(&spec).await.unwrap_err();
    let missing = refused(SandboxSpec::builder().root("/no/such/root").build()).await;
    assert_eq!((missing.stage(), missing.kind()), (Stage::OpenBase, Kind::InvalidSpec));
    assert!(missing.to_string().contains("/no/such/root"));
    let relative = refused(SandboxSpec::builder().root("usr").build()).await;
    assert_eq!(relative.stage(), Stage::Spec);
    let file = refused(SandboxSpec::builder().root("/etc/passwd").build()).await;
    assert!(file.to_string().contains("not a directory"), "{file}");
    let nul = refused(SandboxSpec::builder().tree("a\0b", "/usr").build()).await;
    assert_eq!(nul.kind(), Kind::InvalidSpec);
    for limits in [Limits::new().disk_bytes(0), Limits::new().disk_inodes(0), Limits::new().memory(0)] {
        let impossible = refused(SandboxSpec::builder().limits(limits).build()).await;
        assert_eq!((impossible.stage(), impossible.kind()), (Stage::Spec, Kind::InvalidSpec), "{impossible}");
    }
    let proc = refused(SandboxSpec::builder().tree("proc/x", "/usr").build()).await;
    assert_eq!(proc.stage(), Stage::Spec);
    assert_eq!(printed(&sandbox(&ns).await, "echo alive").await, "alive");
}

#[tokio::test]
async fn a_file_that_is_a_device_or_a_directory_does_not_come_out() {
    let Some(ns) = backend("devices as output") else { return };
    let sandbox = sandbox(&ns).await;
    let command = Command::shell("mkdir directory; ln -s /dev/zero link; mkfifo pipe");
    let paths = ["directory", "link", "pipe", "/dev/zero", "/dev/null", "/etc/passwd"];
    let command = paths.into_iter().fold(command, |command, path| command.file_out(path, 4));
    for file in run(&sandbox, &command).await.files {
        assert!(matches!(file.state, FileState::NotAFile | FileState::Unreadable(_)), "{file:?}");
    }
}

#[tokio::test]
async fn a_processor_that_is_not_there_is_refused_when_the_sandbox_is_made() {
    let Some(ns) = crate::support::backend_with_cgroups("missing processor") else { return };
    let spec = SandboxSpec::builder().limits(Limits::new().cpu_set([1000])).build();
    let error = ns.sandbox(&spec).await.unwrap_err();
    assert_eq!(error.stage(), Stage::Cgroup, "{error}");
    if error.kind() != Kind::Unsupported {
        assert!(error.to_string().contains("processors must exist"), "{error}");
    }
}

#[tokio::test]
async fn a_root_directory_is_the_root() {
    let Some(ns) = backend("root directory") else { return };
    let spec = SandboxSpec::builder().root("/usr").tree("extra/tree", "/usr/share").build();
    let sandbox = sandbox_of(&ns, &spec).await;
    // A dynamic program would need its loader at /lib64; `/bin` is there, since /usr is the root.
    let outcome = sandbox.exec(&Command::new("/bin/no-such")).await.unwrap_err();
    assert_eq!(outcome.kind(), ErrorKind::ProgramNotFound);
    let host = SandboxSpec::builder().root("/").build();
    match ns.sandbox(&host).await {
        Ok(sandbox) => assert_eq!(printed(&sandbox, "echo $(ls -d /box /bin)").await, "/bin /box"),
        Err(error) => assert_eq!(error.stage(), Stage::OpenBase, "{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_future_ends_the_command_and_the_lease_goes_on() {
    let Some(ns) = backend("cancel") else { return };
    let sandbox = sandbox(&ns).await;
    let command = Command::shell("echo > started; sleep 1000");
    tokio::select! {
        _ = sandbox.exec(&command) => panic!("it sleeps"),
        () = started(&sandbox) => {}
    }
    crate::support::eventually("the sleeper's end", || {
        let in_it = crate::support::descendants(sandbox.pid());
        // Keeper's init is left; and, for a moment, a runner that waits.
        in_it.len() <= 1
    })
    .await;
    assert_eq!(printed(&sandbox, "echo alive").await, "alive");
}

async fn started(sandbox: &poolyard_linux_ns::Sandbox) {
    while sandbox.open_file("started").await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn freezing_stops_the_command_and_thawing_lets_it_go_on() {
    let Some(ns) = crate::support::backend_with_cgroups("freeze") else { return };
    let sandbox = sandbox(&ns).await;
    let script = "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); echo $i; done";
    let mut process = sandbox.spawn(&Command::shell(script)).await.unwrap();
    let mut stdout = process.take_stdout().unwrap();
    stdout.read_u8().await.unwrap();
    sandbox.freeze().unwrap();
    process.kill();
    // Killed, but frozen: version 1 keeps it; version 2 lets a kill through.
    sandbox.thaw().unwrap();
    assert_eq!(process.wait().await.unwrap().verdict, Verdict::Cancelled);
}

#[test]
fn it_works_from_a_thread_that_ends_and_a_runtime_that_is_gone() {
    let Some(ns) = std::thread::spawn(|| backend("short-lived thread")).join().unwrap() else { return };
    let ns: std::sync::Arc<LinuxNs> = ns.into();
    for _ in 0..3 {
        let ns = std::sync::Arc::clone(&ns);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let text = runtime.block_on(async { printed(&sandbox(&ns).await, "echo alive").await });
        assert_eq!(text, "alive");
    }
}

#[tokio::test]
async fn the_probe_says_what_is_there_and_what_to_do_about_the_rest() {
    let Some(ns) = backend("probe") else { return };
    let probe = ns.probe().await;
    println!("{probe}");
    assert_eq!(probe.finding("sandbox with network off").unwrap().missing, None);
    assert_eq!(probe.finding("limit wall_time").unwrap().missing, None);
    let cgroups = probe.finding("cgroups").unwrap();
    assert_eq!(cgroups.missing.as_deref(), ns.missing_cgroups());
    if ns.missing_cgroups().is_none() {
        let entered = probe.finding("cgroups entered without a wait").unwrap();
        if let Some(reason) = &entered.missing {
            crate::support::skip("entry into cgroups", "cgroups", reason);
        }
    }
}
