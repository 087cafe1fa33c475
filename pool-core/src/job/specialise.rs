//! Turning a generic resource into one of the key that somebody waits for.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use super::{NO_HEDGE, Task, blocked, lifetime_end};
use crate::call::{call, contained};
use crate::manager::Manager;
use crate::meta::Reason;
use crate::observer::Observer;
use crate::time::now;

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Task<M, O, S> {
    pub(super) async fn specialise(mut self) {
        let start = now();
        self.cx.deadline = start + self.options.create_timeout;
        let shared = self.claim.shared();
        let called = {
            let blocked = blocked(&shared, self.cx.id, "specialise");
            let held = self.claim.held();
            let (from, to) = (Arc::clone(&held.key), &self.key);
            let work = async { shared.manager.specialise(&from, to, &mut held.resource, &self.cx).await };
            call(work, self.cx.deadline, NO_HEDGE, blocked).await
        };
        shared.note_call(&called);
        let took = now() - start;
        let result = self.claim.cleaned("specialise", called.verdict(Reason::SpecialiseFailed));
        _ = contained(|| shared.observer.specialised(self.cx.id, result.err(), took));
        match result {
            Ok(()) => self.specialised(took),
            Err(reason) => {
                self.claim.finish(|inner, slot, at| inner.ledger.specialised(slot, Err(reason), at))
            }
        }
    }

    /// It is as if it had been created for its new key.
    fn specialised(mut self, took: Duration) {
        let shared = self.claim.shared();
        let held = self.claim.held();
        held.key = Arc::clone(&self.key);
        let description = shared.description_of(&held.resource);
        tracing::debug!(id = %self.cx.id, ?took, %description, "poolyard: specialised");
        let (lifetime, jitter) = (self.options.max_lifetime, self.config.lifetime_jitter);
        self.claim.finish(|inner, slot, at| {
            inner.describe(slot, &description);
            inner.ledger.specialised(slot, Ok(lifetime_end(lifetime, jitter, at)), at);
        });
    }
}
