//! Foreign managers in the pool, side by side with the pools that they were written for.

mod bb8;
mod deadpool;

use poolyard_core::{Manager, Pool};

/// Lets the driver finish what it has begun.
async fn settled<M: Manager>(pool: &Pool<M>) {
    loop {
        let counts = pool.snapshot().counts;
        if counts.creating + counts.recycling + counts.checking + counts.destroying == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// What a user of a pool may do next. Numbers pick one of those in use.
#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    Return(usize),
    /// The peer dies; a check would notice.
    Kill(usize),
    /// The peer dies and the connection knows it.
    Break(usize),
    Take(usize),
}
