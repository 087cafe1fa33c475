//! The future of a manager method that was not overridden, and how the pool recognises it.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

/// Does nothing, and says so by its size.
///
/// A future without any state holds no reference to the manager or the resource, so it cannot do
/// anything to either: skipping it changes nothing. An overriding `async fn` always captures its
/// arguments, so its future is never this small.
pub(crate) struct Nothing<T>(PhantomData<fn() -> T>);

impl<T> Nothing<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E> Future for Nothing<Result<(), E>> {
    type Output = Result<(), E>;

    fn poll(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}

impl Future for Nothing<()> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Whether a four-argument manager method is the default one.
pub(crate) const fn is_nothing4<A, B, C, D, F>(_: &impl Fn(A, B, C, D) -> F) -> bool {
    size_of::<F>() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Manager};
    use std::convert::Infallible;

    struct Bare;

    impl Manager for Bare {
        type Key = ();
        type Resource = u8;
        type Error = Infallible;

        async fn create(&self, _: &(), _: &Context) -> Result<u8, Infallible> {
            Ok(0)
        }
    }

    struct Cleans;

    impl Manager for Cleans {
        type Key = ();
        type Resource = u8;
        type Error = Infallible;

        async fn create(&self, _: &(), _: &Context) -> Result<u8, Infallible> {
            Ok(0)
        }

        async fn recycle(&self, _: &(), _: &mut u8, _: &Context) -> Result<(), Infallible> {
            Ok(())
        }
    }

    /// Even a wrapper whose inner method does nothing counts as work.
    struct Wraps(Bare);

    impl Manager for Wraps {
        type Key = ();
        type Resource = u8;
        type Error = Infallible;

        async fn create(&self, key: &(), cx: &Context) -> Result<u8, Infallible> {
            self.0.create(key, cx).await
        }

        async fn recycle(&self, key: &(), r: &mut u8, cx: &Context) -> Result<(), Infallible> {
            self.0.recycle(key, r, cx).await
        }
    }

    fn recycles<M: Manager>() -> bool {
        !is_nothing4(&M::recycle)
    }

    #[test]
    fn a_method_that_is_not_overridden_is_recognised() {
        assert!(!recycles::<Bare>());
        assert!(recycles::<Cleans>());
        assert!(recycles::<Wraps>());
    }
}
