//! Putting a resource to sleep, and waking it.

use std::hash::BuildHasher;

use super::{Task, blocked, hedge};
use crate::call::{call, contained};
use crate::manager::Manager;
use crate::meta::Reason;
use crate::observer::Observer;
use crate::time::now;

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Task<M, O, S> {
    pub(super) async fn hibernate(mut self) {
        let start = now();
        self.cx.deadline = start + self.config.recycle_timeout;
        let shared = self.claim.shared();
        let called = {
            let blocked = blocked(&shared, self.cx.id, "hibernate");
            let hedge = hedge(&shared, self.cx.id, self.hedge_after);
            let held = self.claim.held();
            let work = async { shared.manager.hibernate(&self.key, &mut held.resource, &self.cx).await };
            call(work, self.cx.deadline, hedge, blocked).await
        };
        shared.note_call(&called);
        let result = self.claim.cleaned("hibernate", called.verdict(Reason::HibernateFailed));
        let took = now() - start;
        tracing::trace!(id = %self.cx.id, ?took, "poolyard: hibernated");
        _ = contained(|| shared.observer.hibernated(self.cx.id, result.err(), took));
        self.claim.finish(|inner, slot, at| inner.ledger.hibernated(slot, result, at));
    }

    pub(super) async fn wake(mut self) {
        let start = now();
        self.cx.deadline = start + self.config.recycle_timeout;
        let shared = self.claim.shared();
        let called = {
            let blocked = blocked(&shared, self.cx.id, "wake");
            let hedge = hedge(&shared, self.cx.id, self.hedge_after);
            let held = self.claim.held();
            let work = async { shared.manager.wake(&self.key, &mut held.resource, &self.cx).await };
            call(work, self.cx.deadline, hedge, blocked).await
        };
        shared.note_call(&called);
        let result = self.claim.cleaned("wake", called.verdict(Reason::WakeFailed));
        let took = now() - start;
        tracing::trace!(id = %self.cx.id, ?took, "poolyard: woken");
        _ = contained(|| shared.observer.woken(self.cx.id, result.err(), took));
        self.claim.finish(|inner, slot, at| inner.ledger.woken(slot, result, at));
    }
}
