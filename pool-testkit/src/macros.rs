//! [`conformance!`](crate::conformance): one test per law.

/// Makes a module `$name` with one test per [law](crate::laws) for the manager of a
/// [`Harness`](crate::Harness).
///
/// The name is also what `POOLYARD_REQUIRE` asks for (`linux_ns` is `linux-ns` there). The tests
/// bring their own multi-threaded runtime.
///
/// ```
/// # use poolyard_testkit::*;
/// # use poolyard_core::*;
/// # struct MyHarness;
/// # impl Harness for MyHarness {
/// #     type Manager = FakeManager;
/// #     async fn new() -> Self { MyHarness }
/// #     fn manager(&self) -> FakeManager { FakeManager::new() }
/// #     fn keys(&self) -> Vec<u32> { vec![1, 2] }
/// #     async fn works(&self, key: &u32, r: &mut FakeResource) -> bool { r.key() == key }
/// #     async fn dirty(&self, r: &mut FakeResource, mark: u32) { r.mark(mark) }
/// #     async fn is_dirty(&self, r: &mut FakeResource, mark: u32) -> bool { r.marks().contains(&mark) }
/// #     async fn kill(&self, r: &mut FakeResource) { r.kill() }
/// #     async fn stop(&self, _: &mut FakeResource) {}
/// #     async fn live(&self) -> usize { 0 }
/// # }
/// poolyard_testkit::conformance!(mine, MyHarness);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance {
    ($name:ident, $harness:ty) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::each_law!($name, $harness:
                create_gives_a_healthy_resource
                recycle_removes_every_trace
                recycle_is_repeatable
                a_dead_resource_is_noticed
                destroy_leaves_nothing
                destroy_works_on_broken_resources
                dropping_create_leaves_nothing
                dropping_recycle_leaves_it_destroyable
                a_hibernated_resource_wakes_as_it_was
                destroy_works_on_hibernated_resources
                specialise_gives_a_healthy_resource
                keys_are_kept_apart
                resources_do_not_see_each_other
                no_call_hangs
                dropping_the_manager_leaves_nothing
                a_pool_over_it_keeps_its_promises
            );
        }
    };
}

/// One test for each law that is named.
#[doc(hidden)]
#[macro_export]
macro_rules! each_law {
    ($name:ident, $harness:ty: $($law:ident)+) => {
        $(
            #[test]
            fn $law() {
                $crate::try_law::<$harness>(
                    stringify!($name),
                    stringify!($law),
                    $crate::laws::$law::<$harness>,
                );
            }
        )+
    };
}
