//! A process that was forked: the pool and what is in it belong to the parent.
#![cfg(unix)]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use poolyard_core::{AcquireError, Lease, Pool, Shed, TryAcquireError, from_fn};
use poolyard_testkit::cancel::poll_once;

use crate::common::*;

/// Runs `child` in a forked process and returns whether it was content.
#[allow(unsafe_code)]
fn forked(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs on the one thread that `fork` copies, uses only what this test made
    // (its pool's lock is free: no other thread knows the pool), and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        let content = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
        // SAFETY: ends the child at once, without running anything of the test harness.
        unsafe { libc::_exit(i32::from(!content)) };
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call, and `pid` is this process's own child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

static ENDED: AtomicBool = AtomicBool::new(false);

/// Remembers that it was dropped.
#[derive(Debug)]
struct Precious;

impl Drop for Precious {
    fn drop(&mut self) {
        ENDED.store(true, SeqCst);
    }
}

#[test]
fn in_a_forked_child_the_pool_refuses_and_ends_nothing() {
    let pool = Pool::builder(from_fn(|_: &()| async { Ok::<_, std::io::Error>(Precious) })).build().unwrap();
    pool.insert(&(), Precious).unwrap();
    let lease = pool.try_acquire(&()).unwrap();
    pool.insert(&(), Precious).unwrap();
    let mine = (pool.clone(), lease);
    let content = forked(|| {
        let refused = matches!(pool.try_acquire(&()), Err(TryAcquireError::Forked));
        let mut asked = Box::pin(pool.acquire(&()));
        let asked = matches!(poll_once(asked.as_mut()), std::task::Poll::Ready(Err(AcquireError::Forked)));
        let blocked = matches!(pool.acquire_blocking(&()), Err(AcquireError::Forked));
        let mut warm = Box::pin(pool.warm(&(), 1));
        let warm = poll_once(warm.as_mut()).is_ready();
        let mut close = Box::pin(pool.close(secs(60)));
        let close = poll_once(close.as_mut()).is_ready();
        let gone = Lease::is_gone(&mine.1);
        drop(mine);
        gone && refused && asked && blocked && warm && close && !ENDED.load(SeqCst)
    });
    assert!(content, "the child used, or ended, what is the parent's");
}

#[test]
fn the_last_handle_dropped_in_a_forked_child_ends_nothing() {
    static ENDED: AtomicBool = AtomicBool::new(false);
    #[derive(Debug)]
    struct Own;
    impl Drop for Own {
        fn drop(&mut self) {
            ENDED.store(true, SeqCst);
        }
    }
    let pool = Pool::builder(from_fn(|_: &()| async { Ok::<_, std::io::Error>(Own) })).build().unwrap();
    pool.insert(&(), Own).unwrap();
    let mut pool = Some(pool);
    let content = forked(|| {
        drop(pool.take());
        !ENDED.load(SeqCst)
    });
    assert!(content, "the child dropped the parent's resource");
    drop(pool);
    assert!(ENDED.load(SeqCst), "the parent ends it");
}

#[test]
fn looking_at_the_pool_and_changing_it_panic_in_a_forked_child() {
    let pool = Pool::builder(from_fn(|_: &()| async { Ok::<_, std::io::Error>(Precious) })).build().unwrap();
    let calls: [(&str, &dyn Fn()); 11] = [
        ("snapshot", &|| _ = pool.snapshot()),
        ("resources", &|| _ = pool.resources()),
        ("keys", &|| _ = pool.keys()),
        ("config", &|| _ = pool.config()),
        ("resize", &|| _ = pool.resize(|config| config.max_total = 1)),
        ("retain", &|| _ = pool.retain(|_, _, _| true)),
        ("shed", &|| _ = pool.shed(Shed::All)),
        ("invalidate", &|| pool.invalidate(&())),
        ("invalidate_all", &|| pool.invalidate_all()),
        ("suspend", &|| pool.suspend()),
        ("resume", &|| pool.resume()),
    ];
    for (name, call) in calls {
        let refused = forked(|| {
            std::panic::set_hook(Box::new(|_| {}));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err()
        });
        assert!(refused, "{name}");
    }
    assert!(forked(|| format!("{pool:?}").contains("fork")));
}
