//! The pool's one lock. The only file that names a mutex, so that model checkers can put theirs in.

#[cfg(all(not(poolyard_loom), not(poolyard_shuttle), feature = "parking_lot"))]
pub(crate) use parking_lot::Mutex;

#[cfg(not(all(not(poolyard_loom), not(poolyard_shuttle), feature = "parking_lot")))]
pub(crate) use self::wrapped::Mutex;

#[cfg(not(all(not(poolyard_loom), not(poolyard_shuttle), feature = "parking_lot")))]
mod wrapped {
    #[cfg(poolyard_loom)]
    use loom::sync as raw;
    #[cfg(all(poolyard_shuttle, not(poolyard_loom)))]
    use shuttle::sync as raw;
    #[cfg(not(any(poolyard_loom, poolyard_shuttle)))]
    use std::sync as raw;

    /// A mutex with parking_lot's shape: a panic of the holder does not poison it.
    pub(crate) struct Mutex<T>(raw::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(raw::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> raw::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }
}
