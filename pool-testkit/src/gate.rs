//! [`Gate`]: holds scripted calls until the test lets them go.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

/// Holds scripted calls until the test lets them go. Closed at first; clones are the same gate.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use poolyard_testkit::Gate;
///
/// let gate = Gate::new();
/// let call = tokio::spawn({ let gate = gate.clone(); async move { gate.pass().await } });
/// gate.until_waiting(1).await;
/// gate.release(1);
/// call.await.unwrap();
/// # });
/// ```
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    /// One permit lets one call through; a closed semaphore is an open gate.
    permits: Semaphore,
    waiting: watch::Sender<usize>,
}

impl Gate {
    /// A closed gate.
    #[allow(clippy::new_without_default, reason = "`default` would not say that it is closed")]
    pub fn new() -> Self {
        Self(Arc::new(Inner { permits: Semaphore::new(0), waiting: watch::Sender::new(0) }))
    }

    /// Lets `count` calls through: those that wait first, then later ones.
    pub fn release(&self, count: usize) {
        self.0.permits.add_permits(count);
    }

    /// Lets every call through from now on.
    pub fn open(&self) {
        self.0.permits.close();
    }

    /// How many calls stand before the gate.
    pub fn waiting(&self) -> usize {
        *self.0.waiting.borrow()
    }

    /// Waits until at least `count` calls stand before the gate.
    pub async fn until_waiting(&self, count: usize) {
        let mut waiting = self.0.waiting.subscribe();
        // The sender lives in `self`, so the channel cannot be closed.
        let _ = waiting.wait_for(|&now| now >= count).await;
    }

    /// Waits to be let through. A dropped future leaves the gate as if it had never come.
    pub async fn pass(&self) {
        let _standing = Standing::new(&self.0.waiting);
        if let Ok(permit) = self.0.permits.acquire().await {
            permit.forget();
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("open", &self.0.permits.is_closed())
            .field("waiting", &self.waiting())
            .finish()
    }
}

/// Counts one call as waiting while it lives.
struct Standing<'a>(&'a watch::Sender<usize>);

impl<'a> Standing<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|count| *count += 1);
        Self(waiting)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::HandPolled;

    #[test]
    fn a_gate_lets_through_as_many_as_were_released() {
        let gate = Gate::new();
        let mut first = HandPolled::new(gate.pass());
        let mut second = HandPolled::new(gate.pass());
        assert!(first.poll().is_pending() && second.poll().is_pending());
        assert_eq!(gate.waiting(), 2);
        gate.release(1);
        assert!(first.poll().is_ready());
        assert!(second.poll().is_pending());
        gate.open();
        assert!(second.poll().is_ready());
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn a_call_that_is_dropped_no_longer_waits() {
        let gate = Gate::new();
        let mut call = HandPolled::new(gate.pass());
        assert!(call.poll().is_pending());
        drop(call);
        assert_eq!(gate.waiting(), 0);
    }
}
