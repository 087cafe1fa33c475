//! What cannot happen here, and which test says so.
//!
//! Each line is a bug that a pool has had: most were reproduced before this one was written. The
//! numbers are those of the named project's issues. The tests stand in the repository:
//! `pool-core/tests/peers.rs`, and where marked *loom* or *shuttle* in the file of that name, which
//! tries every schedule of a small scene or many of a larger one. Besides them, every step of two
//! random walks over the ledger is compared with a naive reference and checked against the list of
//! invariants in ARCHITECTURE.md.
//!
//! # Somebody waits for ever
//!
//! | cannot happen | happened in | test |
//! |---|---|---|
//! | A waiter was chosen, goes away, and nobody else is told | mobc#63, sqlx#622, sqlx#1129, boostorg/mysql#509, embassy#6964, shuttle#167 | `a_chosen_waiter_that_goes_away_takes_nothing_with_it`; *loom* `a_waiter_that_goes_away_while_a_resource_is_returned_passes_it_on` |
//! | Two resources come back at once and one wake is lost | bb8 0.9.1 | *loom* `of_two_resources_returned_at_once_one_serves_the_waiter_and_none_is_lost` |
//! | A caller that goes away during a creation costs a place | bb8#59, bb8#67, sqlx#83 | `callers_that_go_away_during_creation_cost_no_place`; *loom* `a_waiter_that_goes_away_while_its_resource_is_made_passes_it_on` |
//! | A panic in the manager bricks the pool | bb8 0.9.1 | `creations_that_panic_do_not_brick_the_pool` |
//! | A broken resource leaves room and the waiter does not hear of it | fast_pool 1.0 | `a_waiter_hears_of_the_room_that_a_discarded_resource_leaves`; *loom* `a_waiter_gets_a_new_resource_for_one_that_is_discarded` |
//! | A creation fails and others go on waiting for its place | commons-pool#113 | `a_creation_that_fails_lets_another_key_go_on` |
//! | Nothing is made, "because one is idle", while more wait | HikariCP#452 | `as_many_are_made_as_there_are_waiters_that_nothing_else_will_serve` |
//! | A call in the return path hangs and pins the place | sqlx#4349, sqlx#4350, sqlx#4363 | `a_return_that_hangs_gives_its_place_back` |
//! | A resource is dropped under the pool's lock and asks the pool | bb8#154 | `a_resource_whose_end_asks_the_pool_does_not_deadlock` |
//! | Some caller, lock or task of many never comes to its end | qp 0.2, golang/go#32336, golang/go#34941 | *shuttle* `five_callers_of_three_keys_share_two_places_in_random_orders` |
//!
//! # More than allowed, or less
//!
//! | cannot happen | happened in | test |
//! |---|---|---|
//! | The limit holds per thread, or is lost in a race | pingora#212, pingora-pool 0.9.1, golang/go#29889 | `threads_together_keep_no_more_than_the_limit` |
//! | A pool made smaller before it was full grows past its new size | deadpool 0.13, deadpool#380 | `a_pool_made_smaller_before_it_was_full_stays_within_its_new_size` |
//! | Counters disagree, or run below zero | deadpool#205, sqlx#3645 | `what_is_being_made_is_counted_and_no_count_runs_below_zero` |
//! | What is waited for is ended for another key | openwhisk#2245 | `what_somebody_waits_for_is_not_ended_for_another_key` |
//! | What was made for somebody who gave up is thrown away | sqlx#3132, sqlx#2848, hyper#1584 | `a_creation_slower_than_every_callers_patience_serves_somebody_in_the_end` |
//! | All resources end at once, because they were made at once | sqlx#2854, sqlx#3051 | `resources_made_together_do_not_all_end_at_once` |
//!
//! # Something is left behind
//!
//! | cannot happen | happened in | test |
//! |---|---|---|
//! | Callers that gave up stay in the queue | golang/go#33850, golang/go#76784 | `callers_that_gave_up_leave_nothing_in_the_queue` |
//! | Keys that were used once stay for ever | pingora#748 | `two_thousand_keys_used_once_leave_no_more_than_fit` |
//! | A lifetime is over and nobody looks | bb8#157, bb8#158 | `a_lifetime_ends_when_it_ends_and_not_at_the_next_sweep` |
//! | Giving back needs a runtime | mobc 0.9 | `a_lease_can_be_given_back_where_no_runtime_is` |
//! | The last handle and the last lease go at once, and nobody cleans up | - | *loom* `the_last_handle_and_the_last_lease_that_go_at_once_leave_nothing` |
//! | A closed and empty pool keeps its task and its manager | this pool, before loom found it | `a_closed_and_empty_pool_keeps_no_task_and_no_manager`, `a_pool_closed_by_its_last_detach_keeps_no_manager` |
//!
//! # The wrong thing is given out
//!
//! | cannot happen | happened in | test |
//! |---|---|---|
//! | A resource is evicted and used at once, or serves another key | pingora-pool 0.8.0 and 0.9.1 | *loom* `a_resource_is_used_again_or_makes_room_for_another_key_and_never_both` |
//! | A resource whose other side has gone is given out after the report | hyper#1389 | *loom* `a_resource_that_was_reported_gone_is_given_to_nobody_afterwards` |
//! | Resources that all fail keep a caller past its deadline | deadpool#201 | `resources_that_all_fail_do_not_keep_a_caller_past_its_deadline` |
