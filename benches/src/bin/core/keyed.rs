//! `keyed`, `evict` and `memory/key`: pools by key, taken from in random order by one task.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use poolyard_benches::heap::{self, Heap};
use poolyard_benches::noise::{Run, Watch};
use poolyard_benches::row::{OURS, Row};
use tokio::runtime::Runtime;

use crate::rounds::{Line, interleave};
use crate::subject::{HUNG, on_worker, quiet};
use crate::subjects::floor::{ByTasks, OneMutex};
use crate::subjects::pingora::Pingora;
use crate::subjects::poolyard::{AllOnPool, DefaultPool};

/// Keys of `memory/key`.
const KNOWN: usize = 10_000;
/// Resources and keys of `evict`: whoever comes next was evicted before.
const ROOM: usize = 1024;
const KEYS_FOR_ROOM: usize = 2048;

/// What `evict` compares.
const BY_CALLS: &str = "a destroy and a creation, each a task of its own that the caller waits for";
const IN_PLACE: &str = "the caller forgets the old and makes the new: no call, no task, not to be compared";

/// A pool by key; anything that can be awaited, or is there at once.
pub(crate) trait KeyedPool<K>: Send + Sync + 'static {
    const NAME: &'static str;
    fn build(size: usize) -> Self;
    /// Takes a resource of `key`, made now if there is none, and gives it back.
    fn cycle(&self, key: &K) -> impl Future<Output = ()> + Send;
}

/// A kind of key.
pub(crate) trait Key: Clone + Eq + Hash + Send + Sync + 'static {
    /// How its rows are called.
    const SUFFIX: &'static str;
    /// What its rows say of it.
    const NOTE: &'static str;
    fn nth(number: usize) -> Self;
}

impl Key for u64 {
    const SUFFIX: &'static str = "";
    const NOTE: &'static str = "";

    fn nth(number: usize) -> u64 {
        number as u64
    }
}

/// 31 bytes, as an address and a port with a scheme before it.
impl Key for String {
    const SUFFIX: &'static str = "/string";
    const NOTE: &'static str = "keys of 31 bytes";

    fn nth(number: usize) -> String {
        format!("https://upstream-{number:09}:8443")
    }
}

/// A subject in front of its keys, ready to be run.
trait Contender {
    /// `None` means that it hung.
    fn run(&mut self, runtime: &Runtime) -> Option<Run>;
}

struct Keyed<K, P> {
    keys: Arc<Vec<K>>,
    /// Made and filled at the first run.
    pool: Option<Arc<P>>,
    size: usize,
    cycles: u64,
    order: Order,
}

/// In which order keys are asked for.
#[derive(Clone, Copy)]
enum Order {
    Random(u64),
    InTurn(usize),
}

impl Order {
    fn next(&mut self, keys: usize) -> usize {
        match self {
            Order::Random(state) => {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                (*state % keys as u64) as usize
            }
            Order::InTurn(last) => {
                *last = (*last + 1) % keys;
                *last
            }
        }
    }
}

impl<K: Key, P: KeyedPool<K>> Contender for Keyed<K, P> {
    fn run(&mut self, runtime: &Runtime) -> Option<Run> {
        let keys = Arc::clone(&self.keys);
        let pool = Arc::clone(self.pool.get_or_insert_with(|| filled(runtime, &keys, self.size)));
        let (mut order, cycles) = (self.order, self.cycles);
        let measured = async move {
            for _ in 0..cycles / 4 {
                pool.cycle(&keys[order.next(keys.len())]).await;
            }
            let (watch, start) = (Watch::start(), Instant::now());
            for _ in 0..cycles {
                pool.cycle(&keys[order.next(keys.len())]).await;
            }
            (start.elapsed(), watch, order)
        };
        let measured = async { tokio::time::timeout(HUNG, measured).await.ok() };
        let (took, watch, order) = on_worker(runtime, measured)?;
        self.order = order;
        Some(watch.run(took, cycles))
    }
}

fn filled<K: Key, P: KeyedPool<K>>(runtime: &Runtime, keys: &Arc<Vec<K>>, size: usize) -> Arc<P> {
    let keys = Arc::clone(keys);
    on_worker(runtime, async move {
        let pool = P::build(size);
        for key in keys.iter() {
            pool.cycle(key).await;
        }
        Arc::new(pool)
    })
}

type KeyedLine = Line<Box<dyn Contender>>;

pub(crate) fn rows(runtime: &Runtime) -> Vec<Row> {
    let mut rows = Vec::new();
    for count in [1, 1000, 100_000] {
        rows.extend(run(runtime, keyed_lines::<u64>(count)));
        rows.extend(run(runtime, keyed_lines::<String>(count)));
    }
    rows.extend(run(runtime, evict_lines()));
    rows
}

fn run(runtime: &Runtime, mut lines: Vec<KeyedLine>) -> Vec<Row> {
    interleave(&mut lines, |contender| contender.run(runtime))
}

fn keyed_lines<K: Key>(count: usize) -> Vec<KeyedLine> {
    let keys: Arc<Vec<K>> = Arc::new((0..count).map(K::nth).collect());
    let bench = format!("keyed/{count}_keys{}", K::SUFFIX);
    let cycles = if poolyard_benches::is_quick() { 20_000 } else { 50_000 };
    let order = Order::Random(0x1234_5678_9abc_def1);
    vec![
        line::<K, DefaultPool<K>>(&bench, OURS, &keys, 1 << 20, cycles, order),
        line::<K, AllOnPool<K>>(&format!("{bench}/all_on"), OURS, &keys, 1 << 20, cycles, order),
        line::<K, Pingora>(&bench, <Pingora as KeyedPool<K>>::NAME, &keys, 1 << 20, cycles, order),
        line::<K, OneMutex<K>>(&bench, OneMutex::<K>::NAME, &keys, 1 << 20, cycles, order),
    ]
}

fn evict_lines() -> Vec<KeyedLine> {
    let keys: Arc<Vec<u64>> = Arc::new((0..KEYS_FOR_ROOM).map(u64::nth).collect());
    let (cycles, order) = (4 * KEYS_FOR_ROOM as u64, Order::InTurn(0));
    vec![
        line::<u64, DefaultPool<u64>>("evict", OURS, &keys, ROOM, cycles, order).noted(BY_CALLS),
        line::<u64, Pingora>("evict", <Pingora as KeyedPool<u64>>::NAME, &keys, ROOM, cycles, order)
            .noted(IN_PLACE),
        line::<u64, ByTasks<u64>>("evict", ByTasks::<u64>::NAME, &keys, ROOM, cycles, order).noted(BY_CALLS),
        line::<u64, OneMutex<u64>>("evict", "floor_in_place", &keys, ROOM, cycles, order).noted(IN_PLACE),
    ]
}

fn line<K: Key, P: KeyedPool<K>>(
    bench: &str,
    name: &'static str,
    keys: &Arc<Vec<K>>,
    size: usize,
    cycles: u64,
    order: Order,
) -> KeyedLine {
    let keys = Arc::clone(keys);
    let keyed: Box<dyn Contender> = Box::new(Keyed::<K, P> { keys, pool: None, size, cycles, order });
    Line::new(bench.to_owned(), name, keyed).noted(K::NOTE)
}

/// What a known key with one idle resource costs.
pub(crate) fn memory(runtime: &Runtime) -> Vec<Row> {
    let mut rows = memory_rows::<u64>(runtime);
    rows.extend(memory_rows::<String>(runtime));
    rows
}

fn memory_rows<K: Key>(runtime: &Runtime) -> Vec<Row> {
    let keys: Arc<Vec<K>> = Arc::new((0..KNOWN).map(K::nth).collect());
    let bench = format!("memory/key{}", K::SUFFIX);
    let row = |name: &str, heap: Heap| {
        let bytes = heap.live as f64 / KNOWN as f64;
        Row::new(&bench, name, "bytes", &[bytes], format!("{KNOWN} keys with one idle resource each"))
    };
    vec![
        row(OURS, known::<K, DefaultPool<K>>(runtime, &keys)),
        row(<Pingora as KeyedPool<K>>::NAME, known::<K, Pingora>(runtime, &keys)),
        row(OneMutex::<K>::NAME, known::<K, OneMutex<K>>(runtime, &keys)),
    ]
}

fn known<K: Key, P: KeyedPool<K>>(runtime: &Runtime, keys: &Arc<Vec<K>>) -> Heap {
    runtime.block_on(quiet());
    heap::start();
    let pool: Arc<P> = filled(runtime, keys, 1 << 20);
    runtime.block_on(quiet());
    let heap = heap::stop();
    drop(pool);
    heap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keys_have_the_length_that_the_table_says() {
        assert_eq!([0, 99_999].map(|number| String::nth(number).len()), [31, 31]);
    }
}
