//! The worker that a zygote forks before anybody orders it.

use poolyard_process::{Attrs, Worker, WorkerSpec};

use crate::support::{Bench, eventually, gone, soon, text};

fn field(pid: i32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t").map(str::to_owned))
}

fn zygote_of(worker: &Worker) -> i32 {
    field(worker.pid(), "PPid").and_then(|pid| pid.parse().ok()).expect("a parent")
}

async fn spare_of(zygote: i32) -> i32 {
    let children = format!("/proc/{zygote}/task/{zygote}/children");
    eventually("a spare worker", || {
        let children = std::fs::read_to_string(&children).ok()?;
        let mut pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.find(|pid| field(*pid, "Name").as_deref() == Some("poolyard-spare"))
    })
    .await
}

fn entry() -> WorkerSpec {
    WorkerSpec::entry("puppet")
}

#[tokio::test]
async fn a_spare_worker_becomes_what_is_ordered_and_another_takes_its_place() {
    let bench = Bench::new();
    let first = bench.worker(entry()).await;
    let zygote = zygote_of(&first);
    let spare = spare_of(zygote).await;

    let spec = entry().attrs(Attrs::new().nice(3).umask(0o027)).cwd("/usr").env("COLOUR", "blue");
    let mut worker = bench.worker(spec).await;
    assert_eq!(worker.pid(), spare);
    let answer = worker.call(b"sh nice; umask; pwd; echo $COLOUR; ps -o sid= -p $PPID", soon()).await;
    let answer = text(answer.expect("an answer"));
    let session = spare.to_string();
    assert_eq!(answer.split_whitespace().collect::<Vec<_>>(), ["3", "0027", "/usr", "blue", &session]);
    assert_eq!(field(spare, "SigBlk").as_deref(), Some("0000000000000000"));
    assert_eq!(field(spare, "Name").as_deref(), Some("poolyard-worker"));
    let links = std::fs::read_dir(format!("/proc/{spare}/fd")).expect("a list").flatten();
    for link in links.filter_map(|entry| std::fs::read_link(entry.path()).ok()) {
        let link = link.to_string_lossy().into_owned();
        assert!(link.starts_with("pipe:") || link == "/dev/null", "it keeps {link}");
    }

    let next = spare_of(zygote).await;
    assert_ne!(next, spare);
    let mut more = Vec::new();
    for _ in 0..5 {
        more.push(bench.worker(entry()).await);
    }
    assert_eq!(more[0].pid(), next);
    for worker in &mut more {
        assert_eq!(text(worker.call(b"sh echo hello", soon()).await.expect("an answer")), "hello\n");
    }
}

#[tokio::test]
async fn nobody_misses_a_spare_worker_that_has_died() {
    let bench = Bench::new();
    let first = bench.worker(entry()).await;
    for _ in 0..3 {
        let spare = spare_of(zygote_of(&first)).await;
        kill(spare);
        gone(spare).await;
        let mut worker = bench.worker(entry()).await;
        assert_eq!(text(worker.call(b"sh echo hello", soon()).await.expect("an answer")), "hello\n");
    }
}

#[tokio::test]
async fn a_spare_worker_ends_with_its_zygote_and_with_its_host() {
    let bench = Bench::new();
    let first = bench.worker(entry()).await;
    let zygote = zygote_of(&first);
    let spare = spare_of(zygote).await;
    kill(zygote);
    gone(spare).await;

    let second = bench.worker(entry()).await;
    let spare = spare_of(zygote_of(&second)).await;
    drop((first, second, bench));
    gone(spare).await;
}

fn kill(pid: i32) {
    let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}
