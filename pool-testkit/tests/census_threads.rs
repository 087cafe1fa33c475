//! What a census sees of threads. Alone in its binary: a test runner's threads come and go.
#![cfg(target_os = "linux")]

use std::sync::mpsc::channel;

use poolyard_testkit::Census;
use poolyard_testkit::census::Scope;

#[test]
fn a_thread_is_seen_where_threads_are_asked_for() {
    let (scope, before) = (Scope::new().threads(), Scope::new().threads().take());
    let (end, ended) = channel::<()>();
    let thread = std::thread::spawn(move || ended.recv());
    assert!(scope.take().changes_since(&before).to_string().contains("+1 threads: "));
    drop(end);
    assert!(thread.join().is_ok());
    Census::assert_unchanged_since_blocking(&before);
}
