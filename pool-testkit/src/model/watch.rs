//! [`Watched`]: the world's manager, with faults in front of it and the reference told of each call.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use poolyard_core::{Context, Gone, Manager, Meta, Reason, Reuse};

use super::book::Book;
use super::event::Event;
use crate::faults::{Faulty, FaultyError};
use crate::script::Method;

/// A manager whose every call is judged.
pub(super) struct Watched<M: Manager> {
    pub(super) faulty: Faulty<M>,
    pub(super) book: Arc<Book<M::Key>>,
    numbers: Arc<AtomicU64>,
    /// By the number of the resource: how to report it gone.
    pub(super) gone: Arc<Mutex<BTreeMap<u64, Gone>>>,
}

impl<M: Manager> Clone for Watched<M> {
    fn clone(&self) -> Self {
        Self {
            faulty: self.faulty.clone(),
            book: Arc::clone(&self.book),
            numbers: Arc::clone(&self.numbers),
            gone: Arc::clone(&self.gone),
        }
    }
}

/// A resource with its number.
pub(super) struct Tracked<M: Manager<Key: fmt::Debug>> {
    pub(super) number: u64,
    /// `None` once it was given away.
    inner: Option<M::Resource>,
    book: Arc<Book<M::Key>>,
}

impl<M: Manager<Key: fmt::Debug>> Tracked<M> {
    /// The resource itself, for who takes it for ever.
    pub(super) fn into_inner(mut self) -> Option<M::Resource> {
        self.inner.take()
    }
}

impl<M: Manager<Key: fmt::Debug>> Deref for Tracked<M> {
    type Target = M::Resource;

    fn deref(&self) -> &M::Resource {
        self.inner.as_ref().expect("it holds its resource until its end")
    }
}

impl<M: Manager<Key: fmt::Debug>> DerefMut for Tracked<M> {
    fn deref_mut(&mut self) -> &mut M::Resource {
        self.inner.as_mut().expect("it holds its resource until its end")
    }
}

impl<M: Manager<Key: fmt::Debug>> Drop for Tracked<M> {
    fn drop(&mut self) {
        drop(self.inner.take());
        self.book.tell(Event::Dropped { resource: self.number });
    }
}

/// A call that is under way; one that is dropped or panics has not ended well.
struct Call<'a, K: Clone + Eq + fmt::Debug> {
    book: &'a Book<K>,
    resource: u64,
    method: Method,
    well: bool,
}

impl<'a, K: Clone + Eq + fmt::Debug> Call<'a, K> {
    fn begin(book: &'a Book<K>, resource: u64, method: Method, key: &K) -> Self {
        book.tell(Event::Called { resource, method, key: key.clone() });
        Self { book, resource, method, well: false }
    }

    fn end<E>(mut self, result: Result<(), E>) -> Result<(), E> {
        self.well = result.is_ok();
        result
    }
}

impl<K: Clone + Eq + fmt::Debug> Drop for Call<'_, K> {
    fn drop(&mut self) {
        let Self { resource, method, well, .. } = *self;
        self.book.tell(Event::Ended { resource, method, well });
    }
}

/// A creation that is under way.
struct Creation<'a, K: Clone + Eq + fmt::Debug> {
    book: &'a Book<K>,
    resource: u64,
    made: bool,
}

impl<K: Clone + Eq + fmt::Debug> Drop for Creation<'_, K> {
    fn drop(&mut self) {
        let resource = self.resource;
        let event = if self.made { Event::Created { resource } } else { Event::NotCreated { resource } };
        self.book.tell(event);
    }
}

impl<M: Manager<Key: fmt::Debug>> Watched<M> {
    pub(super) fn new(manager: M, book: Book<M::Key>) -> Self {
        Self {
            faulty: Faulty::new(manager),
            book: Arc::new(book),
            numbers: Arc::default(),
            gone: Arc::default(),
        }
    }

    fn call(&self, resource: &Tracked<M>, method: Method, key: &M::Key) -> Call<'_, M::Key> {
        Call::begin(&self.book, resource.number, method, key)
    }

    fn begin(&self, key: &M::Key, cx: &Context) -> Creation<'_, M::Key> {
        let resource = self.numbers.fetch_add(1, Relaxed) + 1;
        self.gone.lock().insert(resource, cx.gone());
        let cost = self.faulty.cost(key);
        self.book.tell(Event::Creating { resource, key: key.clone(), cost });
        Creation { book: &self.book, resource, made: false }
    }
}

impl<M: Manager<Key: fmt::Debug>> Manager for Watched<M> {
    type Key = M::Key;
    type Resource = Tracked<M>;
    type Error = FaultyError<M::Error>;

    async fn create(&self, key: &M::Key, cx: &Context) -> Result<Tracked<M>, Self::Error> {
        let mut creation = self.begin(key, cx);
        let inner = Some(self.faulty.create(key, cx).await?);
        creation.made = true;
        Ok(Tracked { number: creation.resource, inner, book: Arc::clone(&self.book) })
    }

    async fn recycle(&self, key: &M::Key, it: &mut Tracked<M>, cx: &Context) -> Result<(), Self::Error> {
        let call = self.call(it, Method::Recycle, key);
        call.end(self.faulty.recycle(key, it, cx).await)
    }

    async fn health_check(&self, key: &M::Key, it: &mut Tracked<M>, cx: &Context) -> Result<(), Self::Error> {
        let call = self.call(it, Method::HealthCheck, key);
        call.end(self.faulty.health_check(key, it, cx).await)
    }

    async fn destroy(&self, key: &M::Key, it: &mut Tracked<M>, reason: Reason, cx: &Context) {
        let call = self.call(it, Method::Destroy, key);
        self.faulty.destroy(key, it, reason, cx).await;
        let _ = call.end(Ok::<_, ()>(()));
    }

    fn destroy_now(&self, key: &M::Key, mut it: Tracked<M>, reason: Reason) {
        let call = self.call(&it, Method::DestroyNow, key);
        if let Some(inner) = it.inner.take() {
            self.faulty.destroy_now(key, inner, reason);
        }
        let _ = call.end(Ok::<_, ()>(()));
    }

    fn reuse(&self, key: &M::Key, it: &mut Tracked<M>, meta: &Meta) -> Reuse {
        let mut call = self.call(it, Method::Reuse, key);
        let reuse = self.faulty.reuse(key, it, meta);
        call.well = reuse == Reuse::Now;
        if reuse == Reuse::Broken {
            self.book.tell(Event::Condemned { resource: it.number, why: "`reuse` said that it is broken" });
        }
        reuse
    }

    fn cost(&self, key: &M::Key) -> u64 {
        self.faulty.cost(key)
    }

    fn retry(&self, error: &Self::Error, attempt: u32) -> Option<Duration> {
        self.faulty.retry(error, attempt)
    }

    fn describe(&self, it: &Tracked<M>) -> Cow<'static, str> {
        self.faulty.describe(it)
    }

    async fn hibernate(&self, key: &M::Key, it: &mut Tracked<M>, cx: &Context) -> Result<(), Self::Error> {
        let call = self.call(it, Method::Hibernate, key);
        call.end(self.faulty.hibernate(key, it, cx).await)
    }

    async fn wake(&self, key: &M::Key, it: &mut Tracked<M>, cx: &Context) -> Result<(), Self::Error> {
        let call = self.call(it, Method::Wake, key);
        call.end(self.faulty.wake(key, it, cx).await)
    }

    fn generic_key(&self, key: &M::Key) -> Option<M::Key> {
        self.faulty.generic_key(key)
    }

    async fn specialise(
        &self,
        from: &M::Key,
        to: &M::Key,
        it: &mut Tracked<M>,
        cx: &Context,
    ) -> Result<(), Self::Error> {
        let call = self.call(it, Method::Specialise, from);
        call.end(self.faulty.specialise(from, to, it, cx).await)?;
        self.book.tell(Event::Became { resource: it.number, key: to.clone() });
        Ok(())
    }
}
