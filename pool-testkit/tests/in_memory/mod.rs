//! A small manager whose resources are cells of a map, into which one bug at a time can be planted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::future::pending;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use poolyard_core::{Context, Manager, Reason};
use poolyard_testkit::Harness;

/// What is wrong with a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    CreatesDeadResources,
    RecycleForgetsOddMarks,
    EighthRecycleBreaks,
    NeverNoticesDeath,
    DestroyLeaksFile,
    DestroyGivesUpOnDeadResources,
    DroppedCreateLeavesACell,
    DroppedRecycleCannotBeDestroyed,
    ServesEveryKey,
    MarksAreShared,
    DestroyWaitsForStoppedResources,
    RecycleBlocksOnStoppedResources,
    DropLeaksFile,
    OrphansAreNotCleaned,
    NeverWakes,
    DestroyGivesUpOnSleepers,
    SpecialiseForgetsTheKey,
}

/// A type that stands for one [`Bug`].
pub(crate) trait Planted: Send + Sync + 'static {
    const BUG: Bug;
}

/// Nothing is wrong.
pub(crate) struct Sound;

impl Planted for Sound {
    const BUG: Bug = Bug::None;
}

/// What the world knows of one resource.
#[derive(Default)]
struct Cell {
    key: u32,
    marks: BTreeSet<u32>,
    dead: bool,
    stopped: bool,
    half_recycled: bool,
    asleep: bool,
    recycles: u32,
}

/// The key whose cells can be turned into those of any other.
const GENERIC: u32 = 99;

type Cells = Arc<Mutex<BTreeMap<u64, Cell>>>;

fn lock(cells: &Cells) -> MutexGuard<'_, BTreeMap<u64, Cell>> {
    cells.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cell of the world; removed when it is dropped.
pub(crate) struct CellGuard {
    number: u64,
    cells: Cells,
    manager: Weak<()>,
    bug: Bug,
}

impl CellGuard {
    fn with<T>(&self, look: impl FnOnce(&mut Cell) -> T) -> Option<T> {
        lock(&self.cells).get_mut(&self.number).map(look)
    }

    fn leaks(&self) -> bool {
        match self.bug {
            Bug::OrphansAreNotCleaned => self.manager.strong_count() == 0,
            Bug::DestroyGivesUpOnDeadResources => self.with(|cell| cell.dead) == Some(true),
            Bug::DroppedRecycleCannotBeDestroyed => self.with(|cell| cell.half_recycled) == Some(true),
            Bug::DestroyGivesUpOnSleepers => self.with(|cell| cell.asleep) == Some(true),
            Bug::DroppedCreateLeavesACell => self.with(|cell| cell.key == 0) == Some(true),
            _ => false,
        }
    }
}

impl Drop for CellGuard {
    fn drop(&mut self) {
        if !self.leaks() {
            lock(&self.cells).remove(&self.number);
        }
    }
}

#[derive(Debug)]
pub(crate) struct IsDead;

impl std::fmt::Display for IsDead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the cell is dead")
    }
}

impl std::error::Error for IsDead {}

/// Makes cells.
pub(crate) struct CellManager {
    cells: Cells,
    alive: Arc<()>,
    bug: Bug,
}

impl CellManager {
    fn fail_if_dead(&self, cell: &CellGuard) -> Result<(), IsDead> {
        let dead = cell.with(|cell| cell.dead) != Some(false);
        if dead && self.bug != Bug::NeverNoticesDeath { Err(IsDead) } else { Ok(()) }
    }

    fn clean(&self, cell: &mut Cell) {
        cell.half_recycled = false;
        cell.recycles += 1;
        cell.marks.retain(|mark| self.bug == Bug::RecycleForgetsOddMarks && mark % 2 == 1);
        cell.dead |= self.bug == Bug::EighthRecycleBreaks && cell.recycles == 8;
    }

    async fn while_stopped(&self, cell: &CellGuard) {
        while cell.with(|cell| cell.stopped) == Some(true) {
            if self.bug == Bug::RecycleBlocksOnStoppedResources {
                std::thread::sleep(Duration::from_millis(10));
            } else {
                pending::<()>().await;
            }
        }
    }
}

impl Drop for CellManager {
    fn drop(&mut self) {
        if self.bug == Bug::DropLeaksFile {
            leak_file();
        }
    }
}

fn leak_file() {
    std::mem::forget(File::open("/dev/null").expect("it exists everywhere"));
}

impl Manager for CellManager {
    type Key = u32;
    type Resource = CellGuard;
    type Error = IsDead;

    async fn create(&self, key: &u32, _: &Context) -> Result<CellGuard, IsDead> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let (number, manager) = (NUMBERS.fetch_add(1, Relaxed), Arc::downgrade(&self.alive));
        lock(&self.cells).insert(number, Cell::default());
        let cell = CellGuard { number, cells: self.cells.clone(), manager, bug: self.bug };
        tokio::task::yield_now().await;
        let dead = self.bug == Bug::CreatesDeadResources;
        cell.with(|cell| *cell = Cell { key: *key, dead, ..Cell::default() });
        Ok(cell)
    }

    async fn recycle(&self, _: &u32, cell: &mut CellGuard, _: &Context) -> Result<(), IsDead> {
        self.while_stopped(cell).await;
        self.fail_if_dead(cell)?;
        cell.with(|cell| cell.half_recycled = true);
        tokio::task::yield_now().await;
        cell.with(|cell| self.clean(cell));
        Ok(())
    }

    async fn health_check(&self, _: &u32, cell: &mut CellGuard, _: &Context) -> Result<(), IsDead> {
        self.while_stopped(cell).await;
        self.fail_if_dead(cell)
    }

    async fn hibernate(&self, _: &u32, cell: &mut CellGuard, _: &Context) -> Result<(), IsDead> {
        cell.with(|cell| cell.asleep = true);
        Ok(())
    }

    async fn wake(&self, _: &u32, cell: &mut CellGuard, _: &Context) -> Result<(), IsDead> {
        cell.with(|cell| cell.asleep = self.bug == Bug::NeverWakes);
        self.fail_if_dead(cell)
    }

    fn generic_key(&self, key: &u32) -> Option<u32> {
        (*key != GENERIC).then_some(GENERIC)
    }

    async fn specialise(&self, _: &u32, to: &u32, cell: &mut CellGuard, _: &Context) -> Result<(), IsDead> {
        if self.bug != Bug::SpecialiseForgetsTheKey {
            cell.with(|cell| cell.key = *to);
        }
        self.fail_if_dead(cell)
    }

    async fn destroy(&self, _: &u32, cell: &mut CellGuard, _: Reason, _: &Context) {
        match self.bug {
            Bug::DestroyWaitsForStoppedResources => self.while_stopped(cell).await,
            Bug::DestroyLeaksFile => leak_file(),
            _ => {}
        }
        if !cell.leaks() {
            lock(&cell.cells).remove(&cell.number);
        }
    }
}

/// The harness: a world of cells.
pub(crate) struct InMemory<P> {
    cells: Cells,
    planted: PhantomData<P>,
}

impl<P: Planted> InMemory<P> {
    fn marked<T>(&self, cell: &CellGuard, look: impl FnOnce(&mut Cell) -> T) -> Option<T> {
        if P::BUG == Bug::MarksAreShared {
            return lock(&self.cells).values_mut().next().map(look);
        }
        cell.with(look)
    }
}

impl<P: Planted> Harness for InMemory<P> {
    type Manager = CellManager;

    /// What is broken need not be waited for as patiently as what is only slow today.
    const CALL_DEADLINE: Duration = match P::BUG {
        Bug::None => Duration::from_secs(5),
        _ => Duration::from_millis(300),
    };
    const LAW_DEADLINE: Duration = Duration::from_secs(60);
    const CASES: u32 = 64;

    async fn new() -> Self {
        Self { cells: Cells::default(), planted: PhantomData }
    }

    fn manager(&self) -> CellManager {
        CellManager { cells: self.cells.clone(), alive: Arc::new(()), bug: P::BUG }
    }

    fn keys(&self) -> Vec<u32> {
        vec![1, 2]
    }

    async fn works(&self, key: &u32, cell: &mut CellGuard) -> bool {
        let serves = |cell: &mut Cell| {
            !cell.dead && !cell.asleep && (cell.key == *key || P::BUG == Bug::ServesEveryKey)
        };
        cell.with(serves) == Some(true)
    }

    async fn dirty(&self, cell: &mut CellGuard, mark: u32) {
        self.marked(cell, |cell| cell.marks.insert(mark));
    }

    async fn is_dirty(&self, cell: &mut CellGuard, mark: u32) -> bool {
        self.marked(cell, |cell| cell.marks.contains(&mark)) == Some(true)
    }

    async fn kill(&self, cell: &mut CellGuard) {
        cell.with(|cell| cell.dead = true);
    }

    async fn stop(&self, cell: &mut CellGuard) {
        cell.with(|cell| cell.stopped = true);
    }

    async fn live(&self) -> usize {
        lock(&self.cells).len()
    }
}
