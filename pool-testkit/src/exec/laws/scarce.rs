//! Limits on files, disk, descriptors, stack, processors and network.

use poolyard_exec::{Command, Limit, Limits, Network, Verdict};

use super::limits::executor_for;
use super::{assert_usable, run, text};
use crate::exec::ExecHarness;

/// No file grows beyond the limit, and the program is told or ended.
pub async fn file_size_is_limited<H: ExecHarness>() {
    let limits = Limits::new().file_size(4096);
    let Some(executor) = executor_for::<H>(Limit::FileSize, &limits).await else { return };
    let command = Command::shell("head -c 100000 /dev/zero > file && echo whole").limits(limits.clone());
    let outcome = run(&executor, &command.file_out("file", 200_000)).await;
    assert!(!outcome.stdout.text().contains("whole"), "{outcome:?}");
    assert_eq!(outcome.file("file").map(<[u8]>::len), Some(4096));
    // Without a shell in between, the signal reaches the main process.
    let direct = Command::new("dd").args(["if=/dev/zero", "of=file", "bs=8192", "count=2"]).limits(limits);
    let verdict = run(&executor, &direct).await.verdict;
    let told = matches!(verdict, Verdict::Exited { code } if code != 0);
    assert!(told || verdict == Verdict::Exceeded(Limit::FileSize), "{verdict:?}");
    assert_usable(&executor).await;
}

/// All files together stay below the limit, and the program is told or ended.
pub async fn disk_bytes_are_limited<H: ExecHarness>() {
    let limits = Limits::new().disk_bytes(4 << 20);
    let Some(executor) = executor_for::<H>(Limit::DiskBytes, &limits).await else { return };
    let script = "i=0; while [ $i -lt 16 ]; do head -c 1000000 /dev/zero > f$i || exit 9; i=$((i+1)); done; echo whole";
    let outcome = run(&executor, &Command::shell(script).limits(limits)).await;
    assert!(!outcome.stdout.text().contains("whole"), "{outcome:?}");
}

/// There are not more files than allowed, and the program is told or ended.
pub async fn disk_inodes_are_limited<H: ExecHarness>() {
    let limits = Limits::new().disk_inodes(200);
    let Some(executor) = executor_for::<H>(Limit::DiskInodes, &limits).await else { return };
    let script = "i=0; while [ $i -lt 500 ]; do echo > f$i || exit 9; i=$((i+1)); done; echo whole";
    let outcome = run(&executor, &Command::shell(script).limits(limits)).await;
    assert!(!outcome.stdout.text().contains("whole"), "{outcome:?}");
}

/// The program has so many descriptors, and opens no more.
pub async fn open_files_are_limited<H: ExecHarness>() {
    let limits = Limits::new().open_files(8);
    let Some(executor) = executor_for::<H>(Limit::OpenFiles, &limits).await else { return };
    let open = |count: u32| {
        let opens: String = (3..3 + count).map(|number| format!("exec {number}</dev/null; ")).collect();
        Command::shell(format!("{opens} echo open")).limits(limits.clone())
    };
    assert_eq!(run(&executor, &open(2)).await.stdout.text(), "open\n");
    assert_eq!(run(&executor, &open(6)).await.stdout.text(), "");
    let told = run(&executor, &Command::shell("ulimit -n").limits(limits.clone())).await;
    assert_eq!(told.stdout.text(), "8\n");
}

/// The program has so much stack.
pub async fn stack_is_limited<H: ExecHarness>() {
    let limits = Limits::new().stack(1 << 20);
    let Some(executor) = executor_for::<H>(Limit::Stack, &limits).await else { return };
    let outcome = run(&executor, &Command::shell("ulimit -s").limits(limits)).await;
    assert_eq!(outcome.stdout.text(), "1024\n", "in KiB");
}

/// The program runs on these processors only.
pub async fn the_cpu_set_is_limited<H: ExecHarness>() {
    let limits = Limits::new().cpu_set([0]);
    let Some(executor) = executor_for::<H>(Limit::CpuSet, &limits).await else { return };
    let script = "while read name value; do [ $name = Cpus_allowed_list: ] && echo $value; done < /proc/self/status; true";
    let outcome = run(&executor, &Command::shell(script).limits(limits)).await;
    assert_eq!(outcome.stdout.text(), "0\n");
}

/// Off means that no route leads anywhere.
pub async fn the_network_is_off<H: ExecHarness>() {
    let limits = Limits::new().network(Network::Off);
    let Some(executor) = executor_for::<H>(Limit::Network, &limits).await else { return };
    let routes = "n=0; while read line; do n=$((n+1)); done < /proc/net/route; echo $n";
    assert!(matches!(text(&executor, routes).await.trim(), "0" | "1"), "nothing but the heading");
}
