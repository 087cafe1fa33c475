//! The laws: what [`Manager`](poolyard_core::Manager) promises, one function per law.
//!
//! [`conformance!`](crate::conformance) makes one test of each. Every law makes its own managers in
//! the harness's world and leaves nothing behind.

mod create;
mod destroy;
mod end;
mod hang;
mod isolation;
mod pool;
mod recycle;
mod sleep;

pub use create::{create_gives_a_healthy_resource, dropping_create_leaves_nothing};
pub use destroy::{destroy_leaves_nothing, destroy_works_on_broken_resources};
pub use end::dropping_the_manager_leaves_nothing;
pub use hang::no_call_hangs;
pub use isolation::{keys_are_kept_apart, resources_do_not_see_each_other};
pub use pool::{PoolOp, PoolPlan, a_pool_over_it_keeps_its_promises, pool_plans};
pub use recycle::{
    a_dead_resource_is_noticed, dropping_recycle_leaves_it_destroyable, recycle_is_repeatable,
    recycle_removes_every_trace,
};
pub use sleep::{
    a_hibernated_resource_wakes_as_it_was, destroy_works_on_hibernated_resources,
    specialise_gives_a_healthy_resource,
};
