use super::*;

const A: ResourceId = ResourceId::standalone(1);
const B: ResourceId = ResourceId::standalone(2);

/// A history of these events, in this order.
fn history(events: impl IntoIterator<Item = Event<char>>) -> History<char> {
    let history = History::new();
    events.into_iter().for_each(|event| history.record(None, event));
    history
}

fn breaches(max_total: usize, events: impl IntoIterator<Item = Event<char>>) -> Vec<Breach> {
    history(events).check(&Rules::new(max_total).still_open()).err().unwrap_or_default()
}

fn start(wait: u64, key: char) -> Event<char> {
    Event::Start { wait, key }
}

fn queued(wait: u64) -> Event<char> {
    Event::Queued { wait }
}

fn got(wait: u64, id: ResourceId) -> Event<char> {
    Event::Got { wait, id }
}

fn returned(id: ResourceId) -> Event<char> {
    Event::Return { id }
}

fn destroyed(id: ResourceId) -> Event<char> {
    Event::Destroyed { id }
}

fn made(id: ResourceId, key: char) -> [Event<char>; 2] {
    [Event::Creating { id, key }, Event::Created { id }]
}

/// One resource of key `a` exists, and wait 0 holds it.
fn held() -> Vec<Event<char>> {
    let mut events = made(A, 'a').to_vec();
    events.extend([start(0, 'a'), got(0, A)]);
    events
}

fn then(mut events: Vec<Event<char>>, more: impl IntoIterator<Item = Event<char>>) -> Vec<Event<char>> {
    events.extend(more);
    events
}

#[test]
fn a_history_in_order_passes_and_is_summed_up() {
    let events = then(
        held(),
        [start(1, 'a'), queued(1), start(2, 'a'), queued(2), returned(A), got(1, A), returned(A), got(2, A)],
    );
    let events = then(events, [start(3, 'a'), Event::GaveUp { wait: 3 }, returned(A), destroyed(A)]);
    let summary = history(events).check(&Rules::new(1).max_overtaking(0)).expect("nothing is wrong");
    assert_eq!(summary, Summary { grants: 3, queued: 2, given_up: 1, resources: 1, peak: 1 });
}

#[test]
fn one_resource_too_many_is_found() {
    let events = then(made(A, 'a').to_vec(), made(B, 'b'));
    assert_eq!(breaches(2, events.clone()), []);
    assert_eq!(breaches(1, events), [Breach::TooMany { number: 2, held: 2 }]);
}

#[test]
fn a_failed_creation_frees_its_place() {
    let events = [Event::Creating { id: A, key: 'a' }, Event::NotCreated { id: A }];
    assert_eq!(breaches(1, then(events.to_vec(), made(B, 'b'))), []);
}

#[test]
fn a_resource_of_another_key_is_found() {
    let events = then(made(A, 'a').to_vec(), [start(0, 'b'), got(0, A)]);
    assert_eq!(breaches(1, events), [Breach::WrongKey { number: 3, id: A }]);
}

#[test]
fn a_resource_given_twice_is_found() {
    let events = then(held(), [start(1, 'a'), got(1, A)]);
    assert_eq!(breaches(1, events), [Breach::NotExclusive { number: 5, id: A }]);
}

#[test]
fn a_recycle_of_a_leased_resource_is_found() {
    let events = then(held(), [Event::Recycled { id: A }]);
    assert_eq!(breaches(1, events), [Breach::NotExclusive { number: 4, id: A }]);
}

#[test]
fn a_destroy_of_a_leased_resource_is_found() {
    let events = then(held(), [destroyed(A)]);
    assert_eq!(breaches(1, events), [Breach::DestroyedWhileLeased { number: 4, id: A }]);
}

#[test]
fn a_resource_given_after_its_end_is_found() {
    let events = then(held(), [returned(A), destroyed(A), start(1, 'a'), got(1, A)]);
    assert_eq!(breaches(1, events), [Breach::NotAlive { number: 7, id: A }]);
}

#[test]
fn a_second_destroy_is_found() {
    let events = then(held(), [returned(A), destroyed(A), destroyed(A)]);
    assert_eq!(breaches(1, events), [Breach::DestroyedTwice { number: 6, id: A }]);
}

#[test]
fn a_missing_destroy_is_found() {
    let left = history(made(A, 'a')).check(&Rules::new(1));
    assert_eq!(left, Err(vec![Breach::NeverDestroyed { id: A }]));
}

#[test]
fn a_younger_wait_of_the_same_key_that_was_certainly_served_first_is_found() {
    let waits = [start(1, 'a'), queued(1), start(2, 'a'), queued(2)];
    let served = [returned(A), got(2, A), returned(A), got(1, A)];
    let events = then(then(held(), waits), served);
    assert_eq!(breaches(1, events), [Breach::OutOfTurn { number: 11, wait: 1 }]);
}

#[test]
fn a_wait_that_was_served_first_and_ran_later_is_not_a_breach() {
    // Both resources were free before either wait ended: nobody can tell who was chosen first.
    let events = then(held(), made(B, 'a'));
    let events = then(events, [start(9, 'a'), got(9, B), start(1, 'a'), queued(1), start(2, 'a'), queued(2)]);
    let events = then(events, [returned(A), returned(B), got(2, B), got(1, A)]);
    assert_eq!(breaches(2, events), []);
}

#[test]
fn waits_that_started_together_may_be_served_in_any_order() {
    let waits = [start(1, 'a'), start(2, 'a'), queued(1), queued(2)];
    let served = [returned(A), got(2, A), returned(A), got(1, A)];
    assert_eq!(breaches(1, then(then(held(), waits), served)), []);
}

/// Wait 1 asks for `b` while three younger waits for `a` are served; then `a` is given up for it.
fn overtaking(between: &[Event<char>]) -> Vec<Event<char>> {
    let mut events = then(held(), [start(1, 'b'), queued(1)]);
    events.extend_from_slice(between);
    for wait in 2..5 {
        events.extend([start(wait, 'a'), queued(wait), returned(A), got(wait, A)]);
    }
    let events = then(events, [returned(A), destroyed(A)]);
    then(then(events, made(B, 'b')), [got(1, B)])
}

#[test]
fn overtaking_beyond_the_bound_is_found() {
    let events = history(overtaking(&[]));
    let rules = Rules::new(1).still_open();
    assert!(events.check(&rules.max_overtaking(3)).is_ok());
    let found = events.check(&rules.max_overtaking(2));
    assert_eq!(found, Err(vec![Breach::Overtaken { wait: 1, times: 3 }]));
}

#[test]
fn a_wait_whose_creation_is_under_way_is_not_overtaken() {
    const C: ResourceId = ResourceId::standalone(3);
    let events = history(overtaking(&[Event::Creating { id: C, key: 'b' }]));
    assert!(events.check(&Rules::new(2).still_open().max_overtaking(0)).is_ok());
}

#[tokio::test]
async fn a_dropped_wait_is_recorded_as_given_up() {
    let history = History::new();
    let never = std::future::pending::<Result<ResourceId, ()>>();
    let mut wait = crate::cancel::HandPolled::new(history.acquire(0, &'a', never, |id| *id));
    assert!(wait.poll().is_pending() && wait.poll().is_pending());
    drop(wait);
    let events: Vec<_> = history.records().into_iter().map(|record| record.event).collect();
    assert_eq!(events, [start(0, 'a'), queued(0), Event::GaveUp { wait: 0 }]);
}
