//! `Deadpool`, side by side with deadpool.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::deadpool::managed::{self, Metrics, Object, QueueMode, RecycleError, RecycleResult};
use poolyard_core::adapters::{Deadpool, DeadpoolError, DeadpoolObject};
use poolyard_core::{AcquireError, Lease, Phase, Pool, PoolConfig, Reason, ReuseOrder, TryAcquireError};
use proptest::prelude::*;

use super::{Step, settled};

/// What a manager saw of one of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Created,
    /// How often it had been recycled, and whether deadpool's `recycled` was set.
    Recycled(usize, bool),
    Detached,
}

/// Written for deadpool: keeps a diary.
#[derive(Clone, Default)]
struct Diary(Arc<Inner>);

#[derive(Default)]
struct Inner {
    made: AtomicU32,
    seen: Mutex<BTreeMap<u32, Vec<Seen>>>,
    hangs: AtomicBool,
    panics: AtomicBool,
}

#[derive(Debug)]
struct Page {
    number: u32,
    dead: bool,
}

#[derive(Debug)]
struct Torn;

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the page is torn")
    }
}

impl Error for Torn {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&fmt::Error)
    }
}

impl Diary {
    fn note(&self, page: &Page, seen: Seen) {
        self.0.seen.lock().unwrap().entry(page.number).or_default().push(seen);
    }

    fn seen(&self) -> BTreeMap<u32, Vec<Seen>> {
        self.0.seen.lock().unwrap().clone()
    }

    fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.seen().values().flatten().filter(|seen| wanted(seen)).count()
    }

    fn recycles(&self) -> usize {
        self.count(|seen| matches!(seen, Seen::Recycled(..)))
    }

    /// How often each object was detached.
    fn detached(&self) -> Vec<usize> {
        let detached = |seen: &Vec<Seen>| seen.iter().filter(|&&seen| seen == Seen::Detached).count();
        self.seen().values().map(detached).collect()
    }
}

impl managed::Manager for Diary {
    type Type = Page;
    type Error = Torn;

    async fn create(&self) -> Result<Page, Torn> {
        let page = Page { number: self.0.made.fetch_add(1, SeqCst), dead: false };
        self.note(&page, Seen::Created);
        Ok(page)
    }

    async fn recycle(&self, page: &mut Page, metrics: &Metrics) -> RecycleResult<Torn> {
        self.note(page, Seen::Recycled(metrics.recycle_count, metrics.recycled.is_some()));
        assert!(!self.0.panics.load(SeqCst), "asked to panic");
        if self.0.hangs.swap(false, SeqCst) {
            std::future::pending::<()>().await;
        }
        match page.dead {
            true if page.number.is_multiple_of(2) => Err(RecycleError::message("dead")),
            true => Err(Torn.into()),
            false => Ok(()),
        }
    }

    fn detach(&self, page: &mut Page) {
        self.note(page, Seen::Detached);
    }
}

fn pool(diary: &Diary) -> Pool<Deadpool<Diary>> {
    Deadpool::builder(diary.clone()).max_total(3).build().unwrap()
}

/// What somebody got to see: the object, its number of recycles, whether it had been recycled.
type Got = (u32, usize, bool);

fn got(page: &Page, metrics: &Metrics) -> Got {
    assert!(!page.dead, "page {} is dead", page.number);
    (page.number, metrics.recycle_count, metrics.recycled.is_some())
}

async fn in_deadpool(steps: &[Step]) -> (Vec<Got>, BTreeMap<u32, Vec<Seen>>) {
    let diary = Diary::default();
    let pool = managed::Pool::<Diary>::builder(diary.clone())
        .max_size(3)
        .queue_mode(QueueMode::Fifo)
        .build()
        .unwrap();
    let (mut held, mut all) = (Vec::new(), Vec::new());
    for &step in steps {
        let pick = |n: usize| n % held.len();
        match step {
            Step::Acquire if held.len() < 3 => {
                let object = pool.get().await.unwrap();
                all.push(got(&object, Object::metrics(&object)));
                held.push(object);
            }
            _ if held.is_empty() => {}
            Step::Return(n) => drop(held.swap_remove(pick(n))),
            Step::Take(n) => drop(Object::take(held.swap_remove(pick(n)))),
            Step::Kill(n) | Step::Break(n) => {
                let n = pick(n);
                held[n].dead = true;
            }
            Step::Acquire => {}
        }
    }
    let seen = diary.seen();
    (all, seen)
}

async fn in_ours(steps: &[Step]) -> (Vec<Got>, BTreeMap<u32, Vec<Seen>>) {
    let diary = Diary::default();
    let pool = Deadpool::builder(diary.clone()).max_total(3).order(ReuseOrder::Fifo).build().unwrap();
    let (mut held, mut all) = (Vec::new(), Vec::new());
    for &step in steps {
        let pick = |n: usize| n % held.len();
        match step {
            Step::Acquire if held.len() < 3 => {
                let lease = pool.acquire(&()).await.unwrap();
                all.push(got(&lease, DeadpoolObject::metrics(&lease)));
                held.push(lease);
            }
            _ if held.is_empty() => {}
            Step::Return(n) => drop(held.swap_remove(pick(n))),
            Step::Take(n) => drop(DeadpoolObject::take(Lease::detach(held.swap_remove(pick(n))))),
            Step::Kill(n) | Step::Break(n) => {
                let n = pick(n);
                held[n].dead = true;
            }
            Step::Acquire => {}
        }
    }
    settled(&pool).await;
    let seen = diary.seen();
    (all, seen)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Acquire),
        4 => any::<usize>().prop_map(Step::Return),
        1 => any::<usize>().prop_map(Step::Kill),
        1 => any::<usize>().prop_map(Step::Take),
    ]
}

proptest! {
    #[test]
    fn any_history_looks_the_same_in_deadpool(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (theirs, ours) = runtime.block_on(async { (in_deadpool(&steps).await, in_ours(&steps).await) });
        prop_assert_eq!(theirs, ours);
    }
}

#[tokio::test]
async fn no_configuration_hands_out_what_was_not_recycled() {
    let diary = Diary::default();
    let config = PoolConfig { check_after: None, ..PoolConfig::default() };
    let pool = Deadpool::builder(diary.clone()).config(config).build().unwrap();
    pool.resize(|config| config.check_after = Some(Duration::from_secs(60))).unwrap();
    for recycles in 0..3 {
        assert!(matches!(pool.try_acquire(&()), Err(TryAcquireError::NoneReady)));
        drop(pool.acquire(&()).await.unwrap());
        assert_eq!(diary.recycles(), recycles);
    }
}

#[tokio::test]
async fn an_object_that_goes_straight_to_a_waiter_is_recycled_in_between() {
    let diary = Diary::default();
    let pool = Deadpool::builder(diary.clone()).max_total(1).build().unwrap();
    let first = pool.acquire(&()).await.unwrap();
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { DeadpoolObject::metrics(&pool.acquire(&()).await.unwrap()).recycle_count }
    });
    while pool.snapshot().counts.waiters == 0 {
        tokio::task::yield_now().await;
    }
    drop(first);
    assert_eq!(waiter.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_recycle_that_hangs_costs_its_object_and_not_the_caller() {
    let diary = Diary::default();
    let pool = pool(&diary);
    drop(pool.acquire(&()).await.unwrap());
    diary.0.hangs.store(true, SeqCst);
    let next = pool.acquire(&()).await.unwrap();
    assert_eq!(next.number, 1);
    drop(next);
    while pool.snapshot().counts.checking > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    settled(&pool).await;
    assert_eq!(diary.detached(), [1, 0]);
    assert_eq!(pool.snapshot().counters.destroyed_for(Reason::Unhealthy), 1);
}

#[tokio::test(start_paused = true)]
async fn one_deadline_bounds_all_recycles_of_an_acquire() {
    let diary = Diary::default();
    let builder = Deadpool::builder(diary.clone()).max_total(1);
    let pool = builder.wait_timeout(Duration::from_secs(2)).build().unwrap();
    drop(pool.acquire(&()).await.unwrap());
    diary.0.hangs.store(true, SeqCst);
    let start = tokio::time::Instant::now();
    let error = pool.acquire(&()).await.unwrap_err();
    assert!(matches!(error, AcquireError::TimedOut { phase: Phase::HealthCheck, .. }), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn detach_is_called_once_however_an_object_ends() {
    let diary = Diary::default();
    let pool = pool(&diary);
    let lease = || async { pool.acquire(&()).await.unwrap() };

    Lease::discard(lease().await);
    let taken = DeadpoolObject::take(Lease::detach(lease().await));
    assert_eq!((taken.number, diary.detached()[1]), (1, 1));
    drop(Lease::detach(lease().await));
    lease().await.dead = true;
    drop(lease().await);
    diary.0.panics.store(true, SeqCst);
    let last = lease().await;
    diary.0.panics.store(false, SeqCst);
    let report = pool.close(Duration::from_millis(1)).await;
    assert_eq!(report.left.len(), 1);
    drop(last);
    settled(&pool).await;
    assert_eq!(diary.detached(), [1; 6]);
}

#[tokio::test]
async fn at_return_an_object_is_recycled_before_the_next_caller_comes() {
    let diary = Diary::default();
    let pool = Deadpool::builder(diary.clone()).at_return().build().unwrap();
    for recycles in 0..300 {
        let lease = pool.acquire(&()).await.unwrap();
        let metrics = DeadpoolObject::metrics(&lease);
        assert_eq!((metrics.recycle_count, metrics.recycled.is_some()), (recycles, recycles > 0));
        Lease::release(lease).await.unwrap();
        assert_eq!(diary.recycles(), recycles + 1);
        assert!(pool.snapshot().counts.idle == 1);
    }
    let mut lease = pool.try_acquire(&()).unwrap();
    lease.dead = true;
    assert_eq!(Lease::release(lease).await, Err(Reason::RecycleFailed));
    settled(&pool).await;
    assert_eq!(diary.detached(), [1]);
}

#[tokio::test]
async fn each_key_has_one_manager_of_its_own() {
    let diaries: Arc<Mutex<Vec<(u8, Diary)>>> = Arc::default();
    let made = Arc::clone(&diaries);
    let pool = Deadpool::per_key(move |&key: &u8| {
        let diary = Diary::default();
        made.lock().unwrap().push((key, diary.clone()));
        diary
    });
    let pool = pool.max_total(3).max_per_key(2).build().unwrap();
    for key in [7, 9, 7, 7, 9] {
        drop(pool.acquire(&key).await.unwrap());
    }
    let diaries = diaries.lock().unwrap();
    let seen: Vec<_> = diaries.iter().map(|(key, diary)| (*key, diary.recycles())).collect();
    assert_eq!(seen, [(7, 2), (9, 1)]);
}

#[test]
fn an_error_prints_its_chain_once() {
    let error = DeadpoolError::Backend(Torn);
    assert_eq!(error.to_string(), "the page is torn");
    assert_eq!(error.source().unwrap().to_string(), fmt::Error.to_string());
    let error: DeadpoolError<Torn> = DeadpoolError::Unfit("dead".into());
    assert_eq!(error.to_string(), "dead");
    assert!(error.source().is_none());
}
