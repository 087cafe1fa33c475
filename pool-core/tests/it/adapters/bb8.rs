//! `Bb8`, side by side with bb8.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::bb8::{ManageConnection, QueueStrategy};
use poolyard_core::adapters::Bb8;
use poolyard_core::{AcquireError, Lease, Pool, PoolConfig, Reason, ReuseOrder, TryAcquireError};
use proptest::prelude::*;

use super::{Step, settled};

/// Written for bb8: counts.
#[derive(Clone, Default)]
struct Lines(Arc<Counts>);

#[derive(Default)]
struct Counts {
    connects: AtomicU32,
    /// So many connects fail before the next one that does not.
    refused: AtomicU32,
    checks: AtomicU32,
    dropped: Mutex<Vec<u32>>,
}

struct Line {
    number: u32,
    dead: bool,
    broken: bool,
    counts: Arc<Counts>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.counts.dropped.lock().unwrap().push(self.number);
    }
}

impl Lines {
    fn checks(&self) -> u32 {
        self.0.checks.load(SeqCst)
    }

    fn dropped(&self) -> Vec<u32> {
        let mut dropped = self.0.dropped.lock().unwrap().clone();
        dropped.sort_unstable();
        dropped
    }
}

impl ManageConnection for Lines {
    type Connection = Line;
    type Error = std::io::Error;

    async fn connect(&self) -> Result<Line, std::io::Error> {
        let refused = |n: u32| n.checked_sub(1);
        if self.0.refused.fetch_update(SeqCst, SeqCst, refused).is_ok() {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let number = self.0.connects.fetch_add(1, SeqCst);
        Ok(Line { number, dead: false, broken: false, counts: Arc::clone(&self.0) })
    }

    async fn is_valid(&self, line: &mut Line) -> Result<(), std::io::Error> {
        self.0.checks.fetch_add(1, SeqCst);
        match line.dead {
            true => Err(std::io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }

    fn has_broken(&self, line: &mut Line) -> bool {
        line.broken
    }
}

/// Which connection somebody got; never a dead one.
fn got(line: &Line) -> u32 {
    assert!(!line.dead && !line.broken, "line {} is dead", line.number);
    line.number
}

async fn in_bb8(steps: &[Step]) -> (Vec<u32>, Vec<u32>) {
    let lines = Lines::default();
    let builder = ::bb8::Pool::builder().max_size(3).queue_strategy(QueueStrategy::Lifo);
    let pool = builder.build(lines.clone()).await.unwrap();
    let (mut held, mut all) = (Vec::new(), Vec::new());
    for &step in steps {
        let pick = |n: usize| n % held.len();
        match step {
            Step::Acquire if held.len() < 3 => {
                let line = pool.get_owned().await.unwrap();
                all.push(got(&line));
                held.push(line);
            }
            _ if held.is_empty() => {}
            Step::Return(n) => drop(held.swap_remove(pick(n))),
            Step::Kill(n) => {
                let n = pick(n);
                held[n].dead = true;
            }
            Step::Break(n) => {
                let n = pick(n);
                held[n].broken = true;
            }
            Step::Acquire | Step::Take(_) => {}
        }
    }
    let dropped = lines.dropped();
    (all, dropped)
}

async fn in_ours(steps: &[Step]) -> (Vec<u32>, Vec<u32>) {
    let lines = Lines::default();
    let pool = Bb8::builder(lines.clone()).max_total(3).order(ReuseOrder::Lifo).build().unwrap();
    let (mut held, mut all) = (Vec::new(), Vec::new());
    for &step in steps {
        let pick = |n: usize| n % held.len();
        match step {
            Step::Acquire if held.len() < 3 => {
                let line = pool.acquire(&()).await.unwrap();
                all.push(got(&line));
                held.push(line);
            }
            _ if held.is_empty() => {}
            Step::Return(n) => drop(held.swap_remove(pick(n))),
            Step::Kill(n) => {
                let n = pick(n);
                held[n].dead = true;
            }
            Step::Break(n) => {
                let n = pick(n);
                held[n].broken = true;
            }
            Step::Acquire | Step::Take(_) => {}
        }
    }
    settled(&pool).await;
    let dropped = lines.dropped();
    (all, dropped)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Acquire),
        4 => any::<usize>().prop_map(Step::Return),
        1 => any::<usize>().prop_map(Step::Kill),
        1 => any::<usize>().prop_map(Step::Break),
    ]
}

proptest! {
    #[test]
    fn any_history_looks_the_same_in_bb8(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (theirs, ours) = runtime.block_on(async { (in_bb8(&steps).await, in_ours(&steps).await) });
        prop_assert_eq!(theirs, ours);
    }
}

#[tokio::test]
async fn no_configuration_hands_out_what_was_not_checked() {
    let lines = Lines::default();
    let pool = Bb8::builder(lines.clone()).config(PoolConfig::default()).build().unwrap();
    pool.resize(|config| config.check_after = None).unwrap();
    for checks in 0..3 {
        assert!(matches!(pool.try_acquire(&()), Err(TryAcquireError::NoneReady)));
        drop(pool.acquire(&()).await.unwrap());
        assert_eq!(lines.checks(), checks);
    }
}

#[tokio::test]
async fn what_has_broken_goes_at_its_return() {
    let lines = Lines::default();
    for builder in [Bb8::builder(lines.clone()), Bb8::builder(lines.clone()).at_return()] {
        let pool = builder.build().unwrap();
        let mut lease = pool.acquire(&()).await.unwrap();
        lease.broken = true;
        let number = lease.number;
        assert_eq!(Lease::release(lease).await, Err(Reason::Broken));
        settled(&pool).await;
        assert_eq!(lines.dropped().last(), Some(&number));
        assert_eq!(lines.checks(), 0);
    }
}

#[tokio::test]
async fn at_return_a_connection_is_checked_before_the_next_caller_comes() {
    let lines = Lines::default();
    let pool = Bb8::builder(lines.clone()).at_return().build().unwrap();
    Lease::release(pool.acquire(&()).await.unwrap()).await.unwrap();
    let mut lease = pool.try_acquire(&()).unwrap();
    assert_eq!(lines.checks(), 1);
    lease.dead = true;
    assert_eq!(Lease::release(lease).await, Err(Reason::RecycleFailed));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_refused_is_tried_again_as_bb8_does() {
    let theirs = attempts_in_bb8().await;
    let lines = Lines::default();
    lines.0.refused.store(4, SeqCst);
    let pool = Bb8::builder(lines).build().unwrap();
    let start = tokio::time::Instant::now();
    pool.acquire(&()).await.unwrap();
    let ours = start.elapsed();
    assert!(theirs <= ours && ours <= theirs.mul_f64(1.25), "{theirs:?} in bb8, here {ours:?}");
}

async fn attempts_in_bb8() -> Duration {
    let lines = Lines::default();
    lines.0.refused.store(4, SeqCst);
    let pool = ::bb8::Pool::builder().build_unchecked(lines);
    let start = tokio::time::Instant::now();
    pool.get().await.unwrap();
    start.elapsed()
}

#[tokio::test]
async fn without_retries_the_caller_gets_the_error_at_once() {
    let lines = Lines::default();
    lines.0.refused.store(1, SeqCst);
    let pool = Bb8::builder(lines).retry_connection(false).build().unwrap();
    match pool.acquire(&()).await {
        Err(AcquireError::Create(error)) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn each_key_has_one_manager_of_its_own() {
    let made: Arc<Mutex<Vec<(&str, Lines)>>> = Arc::default();
    let log = Arc::clone(&made);
    let pool: Pool<Bb8<Lines, &'static str>> = Bb8::per_key(move |key: &&'static str| {
        let lines = Lines::default();
        log.lock().unwrap().push((*key, lines.clone()));
        lines
    })
    .build()
    .unwrap();
    for key in ["a", "b", "a"] {
        drop(pool.acquire(&key).await.unwrap());
    }
    let made = made.lock().unwrap();
    let checks: Vec<_> = made.iter().map(|(key, lines)| (*key, lines.checks())).collect();
    assert_eq!(checks, [("a", 1), ("b", 0)]);
}
