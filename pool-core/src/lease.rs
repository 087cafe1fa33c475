//! [`Lease`]: a resource in a user's hands.

use std::fmt;
use std::hash::BuildHasher;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::anchor::Anchor;
use crate::call::contained;
use crate::hash::RandomState;
use crate::held::Held;
use crate::ledger::Verdict;
use crate::manager::{Manager, Reuse};
use crate::meta::{Meta, Reason, ResourceId};
use crate::observer::Observer;
use crate::shared::Shared;

/// A resource that is yours until you drop it.
///
/// It derefs to the resource. What can be done with the lease itself are associated functions, so
/// that they never hide a method of the resource: `Lease::discard(lease)`.
///
/// Dropping it gives the resource back. That takes tens of nanoseconds, never waits for the
/// manager's asynchronous work, never panics, needs no runtime, and works on any thread, after the
/// pool's runtime has ended and after the pool's last handle is gone.
///
/// Forgetting it (`mem::forget`) costs the pool one place for good, and nothing else.
///
/// In a child of `fork`, dropping it does nothing: the resource belongs to the parent.
pub struct Lease<M: Manager, O: Observer = (), S: BuildHasher + Send + Sync + 'static = RandomState> {
    /// `None` only while it is being taken apart.
    out: Option<Out<M, O, S>>,
}

/// A leased resource, and the pool to which it goes back.
struct Out<M: Manager, O, S> {
    pool: Anchor<M, O, S>,
    held: Box<Held<M>>,
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Lease<M, O, S> {
    #[inline]
    pub(crate) fn new(shared: &Arc<Shared<M, O, S>>, mut held: Box<Held<M>>, waited: bool) -> Self {
        held.meta.uses += 1;
        // A subscriber or an observer that panics costs no lease.
        _ = contained(|| {
            tracing::trace!(
                id = %held.meta.id,
                key = shared.hasher.hash_one(&*held.key),
                waited,
                "poolyard: acquired"
            );
            shared.observer.acquired(held.meta.id, waited);
        });
        Lease { out: Some(Out { pool: Anchor::new(shared), held }) }
    }

    /// What the pool knows of the resource.
    pub fn meta(lease: &Self) -> &Meta {
        &lease.held().meta
    }

    /// The key it was acquired for.
    pub fn key(lease: &Self) -> &M::Key {
        &lease.held().key
    }

    /// Gives the resource back to be destroyed, because it must not be used again.
    pub fn discard(mut lease: Self) {
        lease.give_back(|_, _| Verdict::Destroy(Reason::Discarded));
    }

    /// Takes the resource out of the pool for ever; its place is free at once. The manager does not
    /// see it again.
    pub fn detach(mut lease: Self) -> M::Resource {
        let Out { pool, held } = lease.out.take().expect("a lease holds its resource until it ends");
        if !pool.is_forked() {
            let (id, now) = (held.meta.id, pool.now());
            _ = contained(|| {
                tracing::trace!(%id, "poolyard: detached");
                pool.observer.detached(id);
            });
            pool.end(|inner| inner.ledger.detach(id.slot(), now));
        }
        held.resource
    }

    /// Gives the resource back and waits until it is clean again.
    ///
    /// # Errors
    ///
    /// The reason for which it is destroyed instead.
    ///
    /// # Cancel safety
    ///
    /// The resource is given back at once; a dropped future only does not hear what became of it.
    pub async fn release(mut lease: Self) -> Result<(), Reason> {
        let receiver = lease.begin_release();
        drop(lease);
        receiver.await.unwrap_or(Err(Reason::Interrupted))
    }

    /// Whether somebody has reported the resource gone; in a child of `fork` it always is, since it belongs
    /// to the parent. A few nanoseconds.
    pub fn is_gone(lease: &Self) -> bool {
        let Out { pool, held } = lease.out();
        pool.is_forked() || pool.state.lock().ledger.find(held.meta.id).is_some_and(|slot| slot.gone)
    }

    /// Waits until somebody reports the resource gone; gives the cause.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again.
    pub async fn gone(lease: &Self) -> Arc<str> {
        let Out { pool, held } = lease.out();
        if pool.is_forked() {
            return Arc::from("the process was forked; the resource belongs to the parent");
        }
        let id = held.meta.id;
        let (sender, receiver) = oneshot::channel();
        let known = {
            let mut inner = pool.state.lock();
            match inner.ledger.find(id).is_some_and(|slot| slot.gone) {
                true => Some(inner.note(id.slot()).gone_cause.clone().unwrap_or_default()),
                false => {
                    inner.gone_watchers.retain(|(_, sender)| !sender.is_closed());
                    inner.gone_watchers.push((id, sender));
                    None
                }
            }
        };
        match known {
            Some(cause) => cause,
            None => match receiver.await {
                Ok(cause) => cause,
                Err(_) => std::future::pending().await,
            },
        }
    }

    #[inline]
    fn out(&self) -> &Out<M, O, S> {
        self.out.as_ref().expect("a lease holds its resource until it ends")
    }

    #[inline]
    fn held(&self) -> &Held<M> {
        &self.out().held
    }

    /// What the manager says of a resource that comes back; a panic means that it is broken.
    #[inline]
    fn verdict(shared: &Shared<M, O, S>, held: &mut Held<M>) -> Verdict {
        match contained(|| shared.manager.reuse(&held.key, &mut held.resource, &held.meta)) {
            Ok(Reuse::Recycle) if Shared::<M, O, S>::RECYCLES => Verdict::Recycle,
            Ok(Reuse::Now | Reuse::Recycle) => Verdict::Ready,
            Ok(Reuse::Broken) => Verdict::Destroy(Reason::Broken),
            Err(panic) => {
                tracing::error!(id = %held.meta.id, %panic, "poolyard: reuse panicked");
                shared.state.lock().ledger.counters.panicked_calls += 1;
                Verdict::Destroy(Reason::Panicked)
            }
        }
    }

    /// A subscriber or an observer that panics keeps no resource from coming back.
    #[inline]
    fn tell_returned(shared: &Shared<M, O, S>, id: ResourceId) {
        _ = contained(|| {
            tracing::trace!(%id, "poolyard: returned");
            shared.observer.returned(id);
        });
    }

    /// Gives the resource back; what becomes of it is sent.
    fn begin_release(&mut self) -> oneshot::Receiver<Result<(), Reason>> {
        let (sender, receiver) = oneshot::channel();
        let Out { pool, mut held } = self.out.take().expect("a lease holds its resource until it ends");
        if pool.is_forked() {
            std::mem::forget(held);
            return receiver;
        }
        let shared = pool.counted();
        let id = held.meta.id;
        let verdict = Self::verdict(&shared, &mut held);
        Self::tell_returned(&shared, id);
        let now = shared.now();
        pool.end(|inner| {
            inner.park(id.slot(), held);
            inner.ledger.give_back(id.slot(), verdict, now);
            inner.releasing.push((id, sender));
            inner.after.watch();
        });
        shared.start_driver(true);
        receiver
    }

    #[inline]
    fn give_back(&mut self, verdict: impl FnOnce(&Shared<M, O, S>, &mut Held<M>) -> Verdict) {
        let Some(Out { pool, mut held }) = self.out.take() else { return };
        if pool.is_forked() {
            return std::mem::forget(held);
        }
        let verdict = verdict(&pool, &mut held);
        let id = held.meta.id;
        Self::tell_returned(&pool, id);
        let now = pool.now();
        pool.end(|inner| {
            inner.parked[id.slot() as usize] = Some(held);
            inner.ledger.give_back(id.slot(), verdict, now);
        });
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Drop for Lease<M, O, S> {
    #[inline]
    fn drop(&mut self) {
        self.give_back(Self::verdict);
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> Deref for Lease<M, O, S> {
    type Target = M::Resource;

    #[inline]
    fn deref(&self) -> &M::Resource {
        &self.held().resource
    }
}

impl<M: Manager, O: Observer, S: BuildHasher + Send + Sync + 'static> DerefMut for Lease<M, O, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Resource {
        &mut self.out.as_mut().expect("a lease holds its resource until it ends").held.resource
    }
}

impl<M: Manager<Resource: fmt::Debug>, O: Observer, S: BuildHasher + Send + Sync + 'static> fmt::Debug
    for Lease<M, O, S>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("id", &self.held().meta.id).field("resource", &**self).finish()
    }
}
