//! [`Held`]: a resource with what travels with it.

use std::sync::Arc;

use crate::manager::Manager;
use crate::meta::Meta;

/// A resource, its key and its numbers. Boxed once at creation, so that it moves between the pool,
/// leases and jobs as one pointer.
pub(crate) struct Held<M: Manager> {
    pub(crate) resource: M::Resource,
    pub(crate) key: Arc<M::Key>,
    pub(crate) meta: Meta,
}
