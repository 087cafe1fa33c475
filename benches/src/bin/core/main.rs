//! The core against its peers: `cargo run --profile bench -p poolyard-benches --bin core`.
//!
//! Every subject pools a `u64` that costs nothing to make, through its public API, with its check or
//! reuse hook in place. Subjects are interleaved in one process; see `README.md` for how to read it.

mod allocations;
mod fairness;
mod keyed;
mod load;
mod memory;
mod rounds;
mod subject;
mod subjects;

use poolyard_benches::heap::Counting;
use poolyard_benches::{conditions, report};
use tokio::runtime::Builder;

#[global_allocator]
static HEAP: Counting = Counting;

const PROFILE: &str = "not pinned; a tokio runtime of 2 workers; r2d2 on threads of its own; all_on is: \
    a health check (before hand-out after 30 s, every 100 recycles, every minute), an observer that \
    counts, a minimum idle of 1, limits by key, lifetime with jitter, idle timeout and uses; tracing is \
    compiled in and nobody listens";

fn main() -> std::io::Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let subjects = subjects::all();
    let mut rows = vec![conditions::row(PROFILE)];
    rows.extend(load::rows(&runtime, &subjects));
    rows.extend(keyed::rows(&runtime));
    rows.extend(fairness::rows(&runtime, &subjects));
    rows.extend(allocations::rows(&runtime, &subjects));
    rows.extend(memory::rows(&runtime, &subjects));
    report::publish("core", &rows)
}
