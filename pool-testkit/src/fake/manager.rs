//! The calls: every one takes its scripted step, is logged, and is checked against the rules.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use poolyard_core::{Context, Manager, Meta, Reason, ResourceId, Reuse};

use super::{FakeError, FakeKey, FakeManager, FakeResource, Shared};
use crate::history::Event;
use crate::registry::{Call, Outcome};
use crate::script::{Method, Step};

/// One call under way: its log entry is completed when this is dropped.
struct Running<K> {
    shared: Arc<Shared<K>>,
    index: usize,
    method: Method,
    id: Option<ResourceId>,
    step: Step,
    outcome: Outcome,
}

impl<K> Running<K> {
    /// Plays the step of an asynchronous method and then `work`, which does what it should.
    async fn play<T>(mut self, work: impl FnOnce() -> Result<T, FakeError>) -> Result<T, FakeError> {
        let played = self.step.clone().play().await;
        let result = match played {
            Ok(()) => work(),
            Err(text) => Err(FakeError { method: self.method, text }),
        };
        self.outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Err };
        result
    }

    /// Plays the step of a method that only answers a question.
    fn answer<T>(mut self, answer: T) -> T {
        self.step.in_sync();
        self.outcome = Outcome::Ok;
        answer
    }
}

impl<K> Drop for Running<K> {
    fn drop(&mut self) {
        if self.outcome == Outcome::Running {
            let panicked = std::thread::panicking();
            self.outcome = if panicked { Outcome::Panicked } else { Outcome::Dropped };
        }
        if let (Method::Create, Some(id)) = (self.method, self.id)
            && self.outcome != Outcome::Ok
        {
            self.shared.record(|| Event::NotCreated { id });
        }
        self.shared.registry.lock().end_call(self.index, self.outcome);
        self.shared.changed.notify_waiters();
    }
}

impl<K: FakeKey> FakeManager<K> {
    /// Logs a call and takes its step.
    fn begin(
        &self,
        method: Method,
        key: Option<&K>,
        cx: Option<&Context>,
        reason: Option<Reason>,
    ) -> Running<K> {
        let id = cx.map(Context::id);
        let call = Call {
            method,
            key: key.cloned(),
            id,
            reason,
            attempt: cx.map_or(1, Context::attempt),
            outcome: Outcome::Running,
        };
        let step = self.shared.script.lock().next(method);
        let index = self.shared.registry.lock().begin_call(call);
        self.shared.changed.notify_waiters();
        Running { shared: self.shared.clone(), index, method, id, step, outcome: Outcome::Running }
    }

    /// Logs a call on a resource and checks that it may be made.
    fn begin_on(
        &self,
        method: Method,
        key: &K,
        resource: &FakeResource<K>,
        cx: Option<&Context>,
        reason: Option<Reason>,
    ) -> Running<K> {
        let mut registry = self.shared.registry.lock();
        registry.check_call(resource.serial, method, key, cx.map(Context::id));
        if let (Some(cx), Some(entry)) = (cx, registry.live.get_mut(&resource.serial)) {
            entry.gone.get_or_insert_with(|| cx.gone());
        }
        drop(registry);
        self.begin(method, Some(key), cx, reason)
    }
}

impl<K: FakeKey> Manager for FakeManager<K> {
    type Key = K;
    type Resource = FakeResource<K>;
    type Error = FakeError;

    fn create(
        &self,
        key: &K,
        cx: &Context,
    ) -> impl Future<Output = Result<FakeResource<K>, FakeError>> + Send {
        let call = self.begin(Method::Create, Some(key), Some(cx), None);
        self.shared.registry.lock().begin_create(cx.id(), cx.gone());
        self.shared.record(|| Event::Creating { id: cx.id(), key: key.clone() });
        call.step.at_call();
        call.play(move || {
            self.shared.record(|| Event::Created { id: cx.id() });
            Ok(self.bear(key.clone(), Some(cx.id())))
        })
    }

    fn recycle(
        &self,
        key: &K,
        resource: &mut FakeResource<K>,
        cx: &Context,
    ) -> impl Future<Output = Result<(), FakeError>> + Send {
        let call = self.begin_on(Method::Recycle, key, resource, Some(cx), None);
        call.step.at_call();
        call.play(move || {
            resource.fail_if_dead(Method::Recycle)?;
            resource.marks.clear();
            self.shared.record(|| Event::Recycled { id: cx.id() });
            Ok(())
        })
    }

    fn health_check(
        &self,
        key: &K,
        resource: &mut FakeResource<K>,
        cx: &Context,
    ) -> impl Future<Output = Result<(), FakeError>> + Send {
        let call = self.begin_on(Method::HealthCheck, key, resource, Some(cx), None);
        call.step.at_call();
        call.play(move || resource.fail_if_dead(Method::HealthCheck))
    }

    fn destroy(
        &self,
        key: &K,
        resource: &mut FakeResource<K>,
        reason: Reason,
        cx: &Context,
    ) -> impl Future<Output = ()> + Send {
        let call = self.begin_on(Method::Destroy, key, resource, Some(cx), Some(reason));
        call.step.at_call();
        async move {
            let serial = resource.serial;
            // An error is impossible here: a step that says so ends the resource all the same.
            let ended = || {
                self.shared.destroyed(serial, reason);
                Ok(())
            };
            if call.play(ended).await.is_err() {
                self.shared.destroyed(serial, reason);
            }
        }
    }

    fn destroy_now(&self, key: &K, resource: FakeResource<K>, reason: Reason) {
        let call = self.begin_on(Method::DestroyNow, key, &resource, None, Some(reason));
        // Even a call that panics has ended the resource: it was given away for good.
        self.shared.destroyed(resource.serial, reason);
        call.answer(());
    }

    fn reuse(&self, key: &K, resource: &mut FakeResource<K>, meta: &Meta) -> Reuse {
        let call = self.begin_on(Method::Reuse, key, resource, None, None);
        let answer = self.shared.answers.lock().reuse.clone();
        call.answer(answer.map_or(Reuse::Recycle, |answer| answer(resource, meta)))
    }

    fn cost(&self, key: &K) -> u64 {
        let answer = self.shared.answers.lock().cost.clone();
        self.begin(Method::Cost, Some(key), None, None).answer(answer.map_or(1, |answer| answer(key)))
    }

    fn retry(&self, error: &FakeError, attempt: u32) -> Option<Duration> {
        let answer = self.shared.answers.lock().retry.clone();
        self.begin(Method::Retry, None, None, None).answer(answer.and_then(|answer| answer(error, attempt)))
    }

    fn describe(&self, resource: &FakeResource<K>) -> Cow<'static, str> {
        let answer = self.shared.answers.lock().describe.clone();
        let text = answer.map_or(format!("fake {}", resource.serial), |answer| answer(resource));
        self.begin_on(Method::Describe, &resource.key, resource, None, None).answer(text.into())
    }

    fn hibernate(
        &self,
        key: &K,
        resource: &mut FakeResource<K>,
        cx: &Context,
    ) -> impl Future<Output = Result<(), FakeError>> + Send {
        let call = self.begin_on(Method::Hibernate, key, resource, Some(cx), None);
        call.step.at_call();
        call.play(move || {
            resource.asleep = true;
            Ok(())
        })
    }

    fn wake(
        &self,
        key: &K,
        resource: &mut FakeResource<K>,
        cx: &Context,
    ) -> impl Future<Output = Result<(), FakeError>> + Send {
        let call = self.begin_on(Method::Wake, key, resource, Some(cx), None);
        call.step.at_call();
        call.play(move || {
            resource.asleep = false;
            Ok(())
        })
    }

    fn generic_key(&self, key: &K) -> Option<K> {
        let answer = self.shared.answers.lock().generic_key.clone();
        self.begin(Method::GenericKey, Some(key), None, None).answer(answer.and_then(|answer| answer(key)))
    }

    fn specialise(
        &self,
        from: &K,
        to: &K,
        resource: &mut FakeResource<K>,
        cx: &Context,
    ) -> impl Future<Output = Result<(), FakeError>> + Send {
        // The donor may get the id of the resource that it becomes.
        if let Some(entry) = self.shared.registry.lock().live.get_mut(&resource.serial) {
            entry.id = Some(cx.id());
            entry.gone = Some(cx.gone());
        }
        let call = self.begin_on(Method::Specialise, from, resource, Some(cx), None);
        call.step.at_call();
        call.play(move || {
            resource.key = to.clone();
            if let Some(entry) = self.shared.registry.lock().live.get_mut(&resource.serial) {
                entry.key = to.clone();
            }
            Ok(())
        })
    }
}
