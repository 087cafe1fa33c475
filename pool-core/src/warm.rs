//! Calls of [`Pool::warm`](crate::Pool::warm) that are under way.

use std::collections::HashMap;
use std::task::Waker;

use crate::error::CreateFailure;

/// What a call of [`Pool::warm`](crate::Pool::warm) achieved. What succeeded stays, whatever failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct WarmReport<E> {
    /// How many resources were made.
    pub inserted: usize,
    /// How many were idle already, awake or asleep.
    pub already_there: usize,
    /// Why the others could not be made, one entry each.
    pub failures: Vec<CreateFailure<E>>,
}

impl<E> WarmReport<E> {
    pub(crate) fn all_failed(wanted: u32, failure: impl Fn() -> CreateFailure<E>) -> Self {
        let failures = (0..wanted).map(|_| failure()).collect();
        WarmReport { inserted: 0, already_there: 0, failures }
    }
}

struct WarmCall<E> {
    missing: usize,
    report: WarmReport<E>,
    waker: Option<Waker>,
}

impl<E> WarmCall<E> {
    /// One resource less is missing.
    fn progress(&mut self) -> Option<Waker> {
        self.missing -= 1;
        if self.missing == 0 { self.waker.take() } else { None }
    }
}

pub(crate) struct WarmCalls<E> {
    calls: HashMap<u64, WarmCall<E>>,
    next: u64,
}

impl<E> Default for WarmCalls<E> {
    fn default() -> Self {
        WarmCalls { calls: HashMap::new(), next: 0 }
    }
}

impl<E> WarmCalls<E> {
    /// A new call for `wanted` resources; how many are there already is told by [`began`](Self::began).
    pub(crate) fn begin(&mut self, wanted: usize) -> u64 {
        self.next += 1;
        let report = WarmReport { inserted: 0, already_there: 0, failures: Vec::new() };
        self.calls.insert(self.next, WarmCall { missing: wanted, report, waker: None });
        self.next
    }

    pub(crate) fn began(&mut self, call: u64, already_there: usize) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.missing -= already_there;
            call.report.already_there = already_there;
        }
    }

    pub(crate) fn inserted(&mut self, call: u64) -> Option<Waker> {
        let call = self.calls.get_mut(&call)?;
        call.report.inserted += 1;
        call.progress()
    }

    /// Whom to wake; the failure comes back where the caller has gone away.
    pub(crate) fn failed(
        &mut self,
        call: u64,
        failure: CreateFailure<E>,
    ) -> Result<Option<Waker>, CreateFailure<E>> {
        let Some(call) = self.calls.get_mut(&call) else { return Err(failure) };
        call.report.failures.push(failure);
        Ok(call.progress())
    }

    /// The report, once nothing is missing; else `waker` is woken then.
    pub(crate) fn poll(&mut self, call: u64, waker: Waker) -> Result<WarmReport<E>, Option<Waker>> {
        let pending = self.calls.get_mut(&call).expect("a call is forgotten by its caller only");
        if pending.missing > 0 {
            return Err(pending.waker.replace(waker));
        }
        Ok(self.calls.remove(&call).expect("it was there a moment ago").report)
    }

    /// The caller is gone, or has its report; what is left is the caller's to drop.
    pub(crate) fn forget(&mut self, call: u64) -> impl Sized + use<E> {
        self.calls.remove(&call)
    }

    pub(crate) fn wake_all(&mut self) -> Vec<Waker> {
        self.calls.values_mut().filter_map(|call| call.waker.take()).collect()
    }
}
