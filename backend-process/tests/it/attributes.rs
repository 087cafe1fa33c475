//! What a worker process is given, and what it is not.

use std::os::unix::fs::PermissionsExt;

use poolyard_process::{Attrs, ErrorKind, Grouping, Limit, Spawner, Stage, Worker, WorkerSpec};

use crate::support::{Bench, role, skip, soon, text, ways};

async fn shell(worker: &mut Worker, script: &str) -> String {
    text(worker.call(format!("sh {script}").as_bytes(), soon()).await.expect("a shell")).trim().to_owned()
}

#[tokio::test]
async fn every_attribute_reaches_the_worker_however_it_was_started() {
    let attrs = Attrs::new().nice(7).rlimits(Limit::OpenFiles, 99, 100).cpus([0]).umask(0o027).no_new_privs();
    let bench = Bench::new();
    for (way, spec) in ways() {
        let spec = spec.attrs(attrs.clone()).cwd("/usr").env("COLOUR", "blue").env_remove("HOME");
        let mut worker = bench.worker(spec).await;
        assert_eq!(shell(&mut worker, "nice").await, "7", "{way}");
        assert_eq!(shell(&mut worker, "ulimit -Sn; ulimit -Hn").await, "99\n100", "{way}");
        assert_eq!(shell(&mut worker, "umask").await, "0027", "{way}");
        assert_eq!(shell(&mut worker, "pwd").await, "/usr", "{way}");
        assert_eq!(shell(&mut worker, "echo $COLOUR ${HOME-none}").await, "blue none", "{way}");
        let status = shell(&mut worker, "grep -E 'Cpus_allowed_list|NoNewPrivs' /proc/self/status").await;
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("list:\t0"), "{way}: {status}");
        let session = shell(&mut worker, "ps -o sid= -p $PPID").await;
        assert_eq!(session, worker.pid().to_string(), "{way} leads its session");
    }
}

#[tokio::test]
async fn a_process_group_stays_in_the_session() {
    let bench = Bench::new();
    let mut worker = bench.worker(role("frames").attrs(Attrs::new().grouping(Grouping::ProcessGroup))).await;
    let ids = shell(&mut worker, "ps -o pgid=,sid= -p $PPID").await;
    let mut ids = ids.split_whitespace();
    assert_eq!(ids.next(), Some(worker.pid().to_string().as_str()));
    assert_ne!(ids.next(), Some(worker.pid().to_string().as_str()));
}

#[tokio::test]
async fn a_worker_becomes_another_user_without_the_groups_of_the_host() {
    if !rustix::process::geteuid().is_root() {
        return skip("root", "only root can become another user").unwrap_or_default();
    }
    let bench = Bench::new();
    let attrs = Attrs::new().uid(65_534).gid(65_533);
    for (way, spec) in [("direct", Spawner::Direct), ("zygote", Spawner::Zygote)] {
        // A file that the other user may execute, in a place that it may enter.
        let dir = std::env::temp_dir().join(format!("poolyard-worker-{way}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let exe = dir.join("worker");
        // By another process: a file that this one has open for writing is busy for those it starts.
        let own = std::env::current_exe().expect("an exe");
        assert!(std::process::Command::new("cp").arg(own).arg(&exe).status().expect("cp runs").success());
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("permissions");
        let spec = WorkerSpec::command(&exe).env(crate::puppet::ROLE, "frames").cwd("/").spawner(spec);
        let mut worker = bench.worker(spec.attrs(attrs.clone())).await;
        assert_eq!(shell(&mut worker, "id -u; id -g; id -G").await, "65534\n65533\n65533", "{way}");
        drop(worker);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
    let mut worker = bench.worker(WorkerSpec::entry("puppet").attrs(attrs).cwd("/")).await;
    assert_eq!(shell(&mut worker, "id -u; id -g; id -G").await, "65534\n65533\n65533");
}

#[tokio::test]
async fn a_worker_has_its_channel_and_no_other_descriptor_of_the_host() {
    // Not closed at exec, as a careless library would leave it.
    let leak = std::fs::File::open("/etc/passwd").expect("a file");
    rustix_dup_inheritable(&leak);
    let bench = Bench::new();
    for (way, spec) in ways() {
        let worker = bench.worker(spec).await;
        let list = std::fs::read_dir(format!("/proc/{}/fd", worker.pid())).expect("a list");
        let links: Vec<String> = list
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .map(|link| link.to_string_lossy().into_owned())
            .collect();
        // Those of its channel and of its errors.
        let own = ["pipe:", "socket:"].map(|kind| links.iter().filter(|link| link.starts_with(kind)).count());
        assert!([[4, 0], [2, 2]].contains(&own), "{way}: {links:?}");
        let known =
            |link: &String| link.starts_with("pipe:") || link.starts_with("socket:") || link == "/dev/null";
        assert!(links.iter().all(known), "{way}: {links:?}");
    }
}

fn rustix_dup_inheritable(file: &std::fs::File) {
    use nix::fcntl::{FcntlArg, fcntl};
    fcntl(file, FcntlArg::F_DUPFD(200)).expect("an inheritable copy");
}

#[tokio::test]
async fn what_goes_wrong_is_told_by_its_stage() {
    let bench = Bench::new();
    let missing = WorkerSpec::command("no-such-program-anywhere");
    let error = bench.try_worker(missing).await.expect_err("no program");
    assert_eq!(error.stage(), Stage::Program);
    for spawner in [Spawner::Direct, Spawner::Zygote] {
        let stage =
            |spec: WorkerSpec| async { bench.try_worker(spec.spawner(spawner)).await.map_err(|e| e.stage()) };
        let absent = WorkerSpec::command("/no/such/program");
        assert_eq!(stage(absent).await.expect_err("no program"), Stage::Exec);
        let lost = role("frames").cwd("/no/such/directory");
        assert_eq!(stage(lost).await.expect_err("no directory"), Stage::WorkingDirectory);
        let greedy = role("frames").attrs(Attrs::new().rlimits(Limit::OpenFiles, 20, 10));
        assert_eq!(stage(greedy).await.expect_err("soft above hard"), Stage::Rlimit);
        let nowhere = role("frames").attrs(Attrs::new().cpus([1000]));
        assert_eq!(stage(nowhere).await.expect_err("no processor"), Stage::Cpus);
    }
    let entry = WorkerSpec::entry("nobody registered this");
    assert_eq!(bench.try_worker(entry).await.expect_err("no entry").kind(), ErrorKind::NoEntry);
    let lost = WorkerSpec::entry("puppet").cwd("/no/such/directory");
    let error = bench.try_worker(lost).await.expect_err("no directory");
    assert!(error.stderr().contains("working directory"), "{error}");
    let zero = role("frames").arg("a\0b");
    assert_eq!(bench.try_worker(zero).await.expect_err("a zero byte").kind(), ErrorKind::ZeroByte);
    let huge = role("frames").env("HUGE", "x".repeat(300_000)).spawner(Spawner::Zygote);
    assert_eq!(bench.try_worker(huge).await.expect_err("too large").kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_failed_start_leaves_neither_a_process_nor_a_descriptor() {
    let bench = Bench::new();
    let fail = || bench.try_worker(role("frames").cwd("/no/such/directory").spawner(Spawner::Direct));
    fail().await.expect_err("no directory");
    let before = census();
    for _ in 0..50 {
        fail().await.expect_err("no directory");
    }
    // Other tests run beside this one: what leaked fifty times stands out.
    assert!(census() < before + 40, "{before} descriptors before, {} after", census());
}

pub(crate) fn census() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a list").count()
}

#[tokio::test]
async fn entries_share_what_was_loaded_before_the_first_fork() {
    let bench = Bench::new();
    let mut a = bench.worker(WorkerSpec::entry("puppet")).await;
    let mut b = bench.worker(WorkerSpec::entry("puppet")).await;
    let loaded = text(a.call(b"preloaded", soon()).await.expect("an answer"));
    assert!(loaded.starts_with("Some("), "{loaded}");
    assert_eq!(text(b.call(b"preloaded", soon()).await.expect("an answer")), loaded);
    assert_ne!(loaded, format!("Some({})", a.pid()), "it was loaded in the zygote, once");
}
