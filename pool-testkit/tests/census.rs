//! What a census sees. One test at a time: the census is that of the whole process.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::future::Future;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use poolyard_testkit::Census;
use poolyard_testkit::census::Scope;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn changes(scope: &Scope, before: &Census) -> String {
    scope.take().changes_since(before).to_string()
}

#[test]
fn an_open_file_and_a_socket_are_seen_until_they_are_closed() {
    let _alone = alone();
    let (scope, before) = (Scope::new(), Census::take());
    let file = File::open("/dev/null").expect("it exists everywhere");
    assert_eq!(changes(&scope, &before), "  +1 files: /dev/null\n");
    drop(file);
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    assert!(changes(&scope, &before).starts_with("  +1 sockets: socket:["));
    drop(socket);
    Census::assert_unchanged_since_blocking(&before);
}

#[test]
fn a_child_is_seen_alive_and_as_a_zombie_until_it_is_reaped() {
    let _alone = alone();
    let (scope, before) = (Scope::new(), Census::take());
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("there is a `cat`");
    let alive = format!("+1 processes: cat (pid {})", child.id());
    // The name changes when the new program is loaded.
    while !changes(&scope, &before).contains(&alive) {
        std::thread::yield_now();
    }
    drop(child.stdin.take());
    let zombie = format!("+1 processes: cat (pid {}, a zombie)", child.id());
    while !changes(&scope, &before).contains(&zombie) {
        std::thread::yield_now();
    }
    child.wait().expect("it is our child");
    Census::assert_unchanged_since_blocking(&before);
}

#[test]
fn a_grandchild_is_seen() {
    let _alone = alone();
    let (scope, before) = (Scope::new(), Census::take());
    let mut shell = Command::new("sh");
    let mut child = shell.args(["-c", "cat; :"]).stdin(Stdio::piped()).spawn().expect("there is a `sh`");
    while !changes(&scope, &before).contains("processes: cat (") {
        std::thread::yield_now();
    }
    drop(child.stdin.take());
    child.wait().expect("it is our child");
    Census::assert_unchanged_since_blocking(&before);
}

#[test]
fn directories_of_control_groups_are_seen_at_any_depth() {
    let _alone = alone();
    // Any directory will do: the census only lists directories.
    let root = std::env::temp_dir().join(format!("poolyard-census-{}", std::process::id()));
    fs::create_dir(&root).expect("the temporary directory can be written to");
    let scope = Scope::new().cgroups_under(&root);
    let before = scope.take();
    fs::create_dir_all(root.join("one/two")).expect("it is ours");
    assert_eq!(scope.take().changes_since(&before).to_string().matches("+1 cgroups").count(), 2);
    fs::remove_dir_all(root.join("one")).expect("it is ours");
    Census::assert_unchanged_since_blocking(&before);
    fs::remove_dir(&root).expect("it is ours and empty");
}

#[test]
fn anything_else_can_be_counted() {
    let _alone = alone();
    let (more, counted) = channel();
    more.send("web-1".to_owned()).expect("the receiver lives");
    let counted = Mutex::new(counted);
    let scope = Scope::new().with("containers", move || {
        counted.lock().unwrap_or_else(PoisonError::into_inner).try_iter().collect()
    });
    let before = scope.take();
    more.send("web-2".to_owned()).expect("the receiver lives");
    assert_eq!(changes(&scope, &before), "  -1 containers: web-1\n  +1 containers: web-2\n");
}

#[test]
fn what_goes_away_soon_is_waited_for() {
    let _alone = alone();
    let before = Census::take();
    let file = File::open("/dev/null").expect("it exists everywhere");
    let closer = std::thread::spawn(move || drop(file));
    block_on(Census::assert_unchanged_since(&before));
    assert!(closer.join().is_ok());
}

#[test]
fn what_stays_is_reported() {
    let _alone = alone();
    let before = Census::take();
    let file = File::open("/dev/zero").expect("it exists everywhere");
    let changes = block_on(before.settle(Duration::ZERO)).expect_err("the file is open");
    assert!(changes.to_string().contains("+1 files: /dev/zero"), "{changes}");
    drop(file);
}

/// Runs a future within a census that was taken before its runtime existed.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    // Only timers: a runtime without I/O has no files of its own.
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("it needs nothing")
        .block_on(future)
}
