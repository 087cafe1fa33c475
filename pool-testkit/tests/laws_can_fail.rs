//! Every law can fail: for each, a manager that breaks it and nothing else on purpose.

mod in_memory;

use std::panic::catch_unwind;
use std::time::Duration;

use in_memory::{Bug, InMemory, Planted, Sound};
use poolyard_testkit::{FakeManager, FakeResource, Harness, Trial, conformance, laws, try_law};

// The control: without a bug, the same manager passes them all.
conformance!(sound, InMemory<Sound>);

/// A harness whose laws have hardly any time. Nothing in it is ever used.
struct Impatient;

impl Harness for Impatient {
    type Manager = FakeManager;

    const LAW_DEADLINE: Duration = Duration::from_millis(100);

    async fn new() -> Self {
        Self
    }

    fn manager(&self) -> FakeManager {
        FakeManager::new()
    }

    fn keys(&self) -> Vec<u32> {
        Vec::new()
    }

    async fn works(&self, _: &u32, _: &mut FakeResource) -> bool {
        false
    }

    async fn dirty(&self, _: &mut FakeResource, _: u32) {}

    async fn is_dirty(&self, _: &mut FakeResource, _: u32) -> bool {
        false
    }

    async fn kill(&self, _: &mut FakeResource) {}

    async fn stop(&self, _: &mut FakeResource) {}

    async fn live(&self) -> usize {
        0
    }
}

/// Makes a test that `$law` fails for a manager with `$bug`, and that it says `$says`.
macro_rules! breaks {
    ($test:ident: $bug:ident breaks $law:ident, which says $says:literal) => {
        #[test]
        fn $test() {
            struct ThisBug;
            impl Planted for ThisBug {
                const BUG: Bug = Bug::$bug;
            }
            let said = failure_of::<ThisBug>(stringify!($law), laws::$law);
            assert!(said.contains(concat!("broken: ", stringify!($law))), "{said}");
            assert!(said.contains($says), "{said}");
        }
    };
}

/// What the law says when it fails for a manager with the bug.
fn failure_of<P: Planted>(name: &'static str, law: fn(&Trial<InMemory<P>>)) -> String {
    let result = catch_unwind(|| try_law::<InMemory<P>>("broken", name, law));
    let panic = result.expect_err("the law should not hold for this manager");
    panic.downcast_ref::<String>().expect("laws fail with a text").clone()
}

breaks!(a_new_resource_that_is_dead:
    CreatesDeadResources breaks create_gives_a_healthy_resource, which says "health_check failed: the cell is dead");
breaks!(a_mark_that_recycle_forgets:
    RecycleForgetsOddMarks breaks recycle_removes_every_trace, which says "is still there after recycle");
breaks!(a_recycle_that_wears_out:
    EighthRecycleBreaks breaks recycle_is_repeatable, which says "the cell is dead");
breaks!(a_death_that_nobody_notices:
    NeverNoticesDeath breaks a_dead_resource_is_noticed, which says "neither recycle nor health_check noticed");
breaks!(a_file_left_by_destroy:
    DestroyLeaksFile breaks destroy_leaves_nothing, which says "files: /dev/null");
breaks!(a_broken_resource_left_by_destroy:
    DestroyGivesUpOnDeadResources breaks destroy_works_on_broken_resources, which says "1 resources live");
breaks!(a_half_made_resource_left_by_a_dropped_create:
    DroppedCreateLeavesACell breaks dropping_create_leaves_nothing, which says "dropped at poll 1, 1 resources live");
breaks!(a_resource_that_a_dropped_recycle_made_immortal:
    DroppedRecycleCannotBeDestroyed breaks dropping_recycle_leaves_it_destroyable,
    which says "dropped at poll 1, 1 resources live");
breaks!(a_resource_that_serves_any_key:
    ServesEveryKey breaks keys_are_kept_apart, which says "does the job of another");
breaks!(a_mark_that_is_seen_in_another_resource:
    MarksAreShared breaks resources_do_not_see_each_other, which says "is seen in another");
breaks!(a_destroy_that_waits_for_ever:
    DestroyWaitsForStoppedResources breaks no_call_hangs, which says "destroy has not ended within 300ms");
breaks!(a_recycle_that_blocks_its_thread:
    RecycleBlocksOnStoppedResources breaks no_call_hangs, which says "blocks its thread");
breaks!(a_file_left_by_the_manager:
    DropLeaksFile breaks dropping_the_manager_leaves_nothing, which says "files: /dev/null");
breaks!(a_resource_that_does_not_end_without_its_manager:
    OrphansAreNotCleaned breaks dropping_the_manager_leaves_nothing, which says "outlived its manager");

breaks!(a_sleeper_that_stays_asleep:
    NeverWakes breaks a_hibernated_resource_wakes_as_it_was, which says "was woken does not do its job");
breaks!(a_sleeper_left_by_destroy:
    DestroyGivesUpOnSleepers breaks destroy_works_on_hibernated_resources, which says "1 resources live");
breaks!(a_generic_resource_that_stays_generic:
    SpecialiseForgetsTheKey breaks specialise_gives_a_healthy_resource, which says "not do the job of its key");

breaks!(a_mark_that_reaches_the_next_user_of_a_pool:
    RecycleForgetsOddMarks breaks a_pool_over_it_keeps_its_promises, which says "bears the mark of an earlier user");
breaks!(a_dead_resource_that_reaches_a_user_of_a_pool:
    NeverNoticesDeath breaks a_pool_over_it_keeps_its_promises, which says "handed out does not work");
breaks!(a_broken_resource_that_outlives_its_pool:
    DestroyGivesUpOnDeadResources breaks a_pool_over_it_keeps_its_promises, which says "resources live");

#[test]
fn a_law_that_never_ends_fails() {
    let never = |trial: &Trial<Impatient>| trial.run(std::future::pending());
    let result = catch_unwind(|| try_law::<Impatient>("broken", "never", never));
    let panic = result.expect_err("it never ends");
    let said = panic.downcast_ref::<String>().expect("it is a text");
    assert_eq!(said, "never: not ended within 100ms");
}

#[test]
fn a_random_failure_says_how_to_replay_it() {
    struct Forgets;
    impl Planted for Forgets {
        const BUG: Bug = Bug::RecycleForgetsOddMarks;
    }
    let said = failure_of::<Forgets>("recycle_removes_every_trace", laws::recycle_removes_every_trace);
    assert!(said.contains("minimal failing input"), "{said}");
    assert!(said.contains("replay with POOLYARD_SEED="), "{said}");
}
