//! [`MetricsObserver`]: a pool's events as metrics.

use std::panic::Location;
use std::time::Duration;

use crate::error::Phase;
use crate::meta::{Reason, ResourceId};
use crate::observer::Observer;

/// Reports a pool's events to the recorder of the `metrics` facade, whichever is installed. Every
/// metric has the label `pool`.
///
/// | metric | kind | further labels |
/// |---|---|---|
/// | `poolyard_acquired_total` | counter | `waited`: `true`, `false` |
/// | `poolyard_returned_total` | counter | |
/// | `poolyard_detached_total` | counter | |
/// | `poolyard_timed_out_total` | counter | `phase` |
/// | `poolyard_create_seconds` | histogram | `result`: `ok`, `error` |
/// | `poolyard_circuits_opened_total` | counter | |
/// | `poolyard_recycle_seconds` | histogram | `result` |
/// | `poolyard_health_check_seconds` | histogram | `result` |
/// | `poolyard_hibernate_seconds` | histogram | `result` |
/// | `poolyard_wake_seconds` | histogram | `result` |
/// | `poolyard_specialise_seconds` | histogram | `result` |
/// | `poolyard_destroy_seconds` | histogram | `reason` |
/// | `poolyard_abandoned_total` | counter | `reason` |
/// | `poolyard_leaked_total` | counter | |
/// | `poolyard_blocked_polls_total` | counter | `call` |
///
/// Gauges come from [`Snapshot::report`](crate::Snapshot::report), called as often as they are wanted.
#[derive(Clone, Debug)]
pub struct MetricsObserver {
    pool: String,
}

impl MetricsObserver {
    /// An observer for the pool of this name.
    pub fn new(pool: impl Into<String>) -> Self {
        MetricsObserver { pool: pool.into() }
    }

    fn time(&self, name: &'static str, label: &'static str, value: &'static str, took: Duration) {
        metrics::histogram!(name, "pool" => self.pool.clone(), label => value).record(took);
    }
}

fn result(failed: Option<Reason>) -> &'static str {
    if failed.is_some() { "error" } else { "ok" }
}

impl Observer for MetricsObserver {
    fn acquired(&self, _: ResourceId, waited: bool) {
        let waited = if waited { "true" } else { "false" };
        metrics::counter!("poolyard_acquired_total", "pool" => self.pool.clone(), "waited" => waited)
            .increment(1);
    }

    fn returned(&self, _: ResourceId) {
        metrics::counter!("poolyard_returned_total", "pool" => self.pool.clone()).increment(1);
    }

    fn detached(&self, _: ResourceId) {
        metrics::counter!("poolyard_detached_total", "pool" => self.pool.clone()).increment(1);
    }

    fn created(&self, _: ResourceId, took: Duration) {
        self.time("poolyard_create_seconds", "result", "ok", took);
    }

    fn create_failed(&self, _: ResourceId, _: &str, took: Duration) {
        self.time("poolyard_create_seconds", "result", "error", took);
    }

    fn circuit_opened(&self, _: ResourceId, _: u64, _: Duration) {
        metrics::counter!("poolyard_circuits_opened_total", "pool" => self.pool.clone()).increment(1);
    }

    fn recycled(&self, _: ResourceId, failed: Option<Reason>, took: Duration) {
        self.time("poolyard_recycle_seconds", "result", result(failed), took);
    }

    fn checked(&self, _: ResourceId, failed: Option<Reason>, took: Duration) {
        self.time("poolyard_health_check_seconds", "result", result(failed), took);
    }

    fn hibernated(&self, _: ResourceId, failed: Option<Reason>, took: Duration) {
        self.time("poolyard_hibernate_seconds", "result", result(failed), took);
    }

    fn woken(&self, _: ResourceId, failed: Option<Reason>, took: Duration) {
        self.time("poolyard_wake_seconds", "result", result(failed), took);
    }

    fn specialised(&self, _: ResourceId, failed: Option<Reason>, took: Duration) {
        self.time("poolyard_specialise_seconds", "result", result(failed), took);
    }

    fn destroyed(&self, _: ResourceId, reason: Reason, took: Duration) {
        self.time("poolyard_destroy_seconds", "reason", reason.as_str(), took);
    }

    fn abandoned(&self, _: ResourceId, reason: Reason) {
        metrics::counter!("poolyard_abandoned_total", "pool" => self.pool.clone(), "reason" => reason.as_str())
            .increment(1);
    }

    fn leaked(&self, _: ResourceId, _: Duration, _: &'static Location<'static>) {
        metrics::counter!("poolyard_leaked_total", "pool" => self.pool.clone()).increment(1);
    }

    fn timed_out(&self, phase: Phase) {
        metrics::counter!("poolyard_timed_out_total", "pool" => self.pool.clone(), "phase" => phase.as_str())
            .increment(1);
    }

    fn blocked(&self, _: ResourceId, call: &'static str, _: Duration) {
        metrics::counter!("poolyard_blocked_polls_total", "pool" => self.pool.clone(), "call" => call)
            .increment(1);
    }
}

impl crate::Snapshot {
    /// Reports the snapshot's counts as gauges to the recorder of the `metrics` facade:
    /// `poolyard_resources` by `state`, `poolyard_waiters`, `poolyard_cost`, `poolyard_keys`, `poolyard_circuits_open`, `poolyard_pressure` (0 or 1), each with
    /// the label `pool`.
    pub fn report(&self, pool: &str) {
        let counts = &self.counts;
        let states = [
            ("creating", counts.creating),
            ("idle", counts.idle),
            ("leased", counts.leased),
            ("recycling", counts.recycling),
            ("checking", counts.checking),
            ("hibernating", counts.hibernating),
            ("hibernated", counts.hibernated),
            ("waking", counts.waking),
            ("specialising", counts.specialising),
            ("destroying", counts.destroying),
            ("abandoned", counts.abandoned),
        ];
        for (state, count) in states {
            metrics::gauge!("poolyard_resources", "pool" => pool.to_owned(), "state" => state)
                .set(count as f64);
        }
        metrics::gauge!("poolyard_waiters", "pool" => pool.to_owned()).set(counts.waiters as f64);
        metrics::gauge!("poolyard_cost", "pool" => pool.to_owned()).set(self.cost as f64);
        let pressed = if self.pressure.is_some() { 1.0 } else { 0.0 };
        metrics::gauge!("poolyard_pressure", "pool" => pool.to_owned()).set(pressed);
        metrics::gauge!("poolyard_circuits_open", "pool" => pool.to_owned()).set(self.circuits_open as f64);
        metrics::gauge!("poolyard_keys", "pool" => pool.to_owned()).set(self.keys as f64);
    }
}
