//! Every event of `tracing` comes when it should, as the table of `poolyard_core::events` says.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use poolyard_core::{KeyPolicy, Lease, Pressed, Shed};
use poolyard_testkit::{FakeManager, Gate, Method, Step};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::set_default;
use tracing::{Event, Metadata, Subscriber};

use crate::common::*;

/// The table, as users read it.
const TABLE: &str = include_str!("../../src/events.rs");

/// One line of the table: level, message, names of the fields.
type Row = (String, String, BTreeSet<String>);

/// A subscriber whose every event panics, without the panic hook.
struct Panics;

impl Subscriber for Panics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() == tracing::Level::TRACE
            && metadata.target().starts_with("poolyard_core")
    }

    fn event(&self, _: &Event<'_>) {
        std::panic::resume_unwind(Box::new("no"));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Row>>>);

impl Seen {
    /// Events since the last call.
    fn take(&self) -> BTreeSet<Row> {
        std::mem::take(&mut *self.0.lock().unwrap()).into_iter().collect()
    }
}

impl Subscriber for Seen {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("poolyard_core")
    }

    fn event(&self, event: &Event<'_>) {
        let mut row = (event.metadata().level().to_string().to_lowercase(), String::new(), BTreeSet::new());
        event.record(&mut Columns(&mut row));
        self.0.lock().unwrap().push(row);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Columns<'a>(&'a mut Row);

impl Visit for Columns<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.1 = format!("{value:?}"),
            name => _ = self.0.2.insert(name.to_owned()),
        }
    }
}

fn table() -> BTreeSet<Row> {
    let rows = TABLE.lines().filter_map(|line| line.strip_prefix("//! | ")).filter(|row| row.contains('`'));
    rows.map(|row| {
        let mut columns = row.split('|').map(str::trim);
        let level = columns.next().unwrap().to_owned();
        let message = columns.next().unwrap().trim_matches('`').to_owned();
        let fields = columns.next().unwrap().split(", ").map(|field| field.trim_matches('`').to_owned());
        (level, message, fields.collect())
    })
    .collect()
}

fn row(level: &str, message: &str) -> Row {
    let named = |row: &Row| row.0 == level && row.1 == format!("poolyard: {message}");
    table().into_iter().find(named).unwrap_or_else(|| panic!("the table has no {level} `{message}`"))
}

/// A pool of one whose only resource has been used and given back, and what was seen of one more use
/// after `plan` has been made.
async fn seen_of_a_use(plan: impl FnOnce(&FakeManager)) -> BTreeSet<Row> {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).check_every_recycles(1).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    seen.take();
    plan(&fake);
    drop(pool.acquire(&1).await);
    tokio::time::sleep(secs(3600)).await;
    seen.take()
}

const UNUSABLE: &str = "the resource is not used again";

#[tokio::test(start_paused = true)]
async fn the_life_of_a_resource_is_told() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    Lease::discard(pool.acquire(&1).await.unwrap());
    settle().await;
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    assert!(fake.gone(fake.live_ids()[0]));
    settle().await;
    Lease::detach(pool.acquire(&1).await.unwrap()).end();
    let told = [
        ("debug", "created"),
        ("trace", "served"),
        ("trace", "acquired"),
        ("trace", "returned"),
        ("trace", "recycled"),
        ("debug", "destroyed"),
        ("debug", "gone"),
        ("trace", "detached"),
    ];
    assert_eq!(seen.take(), told.map(|(level, message)| row(level, message)).into());
}

#[tokio::test(start_paused = true)]
async fn sleep_is_told() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let pool =
        pool_of(1, &FakeManager::new()).hibernate_after(secs(10)).check_interval(None).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    seen.take();
    tokio::time::sleep(secs(11)).await;
    assert_eq!(seen.take(), [row("trace", "hibernated")].into());
    drop(pool.acquire(&1).await.unwrap());
    assert!(seen.take().contains(&row("trace", "woken")));
}

#[tokio::test(start_paused = true)]
async fn a_specialisation_is_told() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let fake = FakeManager::new().on_generic_key(|key| (*key != 0).then_some(0));
    let pool = pool_of(4, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    seen.take();
    drop(pool.acquire(&2).await.unwrap());
    assert!(seen.take().contains(&row("debug", "specialised")));
}

#[tokio::test(start_paused = true)]
async fn a_failed_creation_and_its_retries_are_told() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let fake = FakeManager::new().create_script([Step::err("no"), Step::err("never")]);
    let fake = fake.on_retry(|_, attempt| (attempt < 2).then_some(ms(10)));
    let pool = pool_of(1, &fake).build().unwrap();
    pool.acquire(&1).await.unwrap_err();
    let told = [
        row("debug", "creation failed, trying again"),
        row("warn", "creation failed"),
        row("trace", "not served"),
    ];
    assert_eq!(seen.take(), told.into());
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_is_told() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let fake = FakeManager::new().create_script([Step::err("no")]);
    let pool = pool_of(1, &fake).breaker_after(1).build().unwrap();
    pool.acquire(&1).await.unwrap_err();
    let told = row("warn", "creations of a key keep failing; none is tried for a while");
    assert!(seen.take().contains(&told));
}

#[tokio::test(start_paused = true)]
async fn pressure_and_a_source_that_panics_are_told() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let (fake, looks) = (FakeManager::new(), Mutex::new(0));
    let source = move || {
        let mut looks = looks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *looks += 1;
        match *looks {
            1 => Some(Pressed { shed: Shed::Half, cause: "the attic is full".into() }),
            2 => None,
            _ => panic!("no such file"),
        }
    };
    let pool = pool_of(1, &fake).pressure(source).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    tokio::time::sleep(secs(3)).await;
    let seen = seen.take();
    for (level, message) in [
        ("warn", "under pressure; idle resources go and no creation starts"),
        ("info", "the pressure is over"),
        ("error", "the pressure source panicked"),
    ] {
        assert!(seen.contains(&row(level, message)), "{message}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_held_for_long_is_told() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).leak_after(secs(1)).build().unwrap();
    let _lease = pool.acquire(&1).await.unwrap();
    seen.take();
    tokio::time::sleep(secs(2)).await;
    assert_eq!(seen.take(), [row("warn", "a lease is held for long")].into());
}

#[tokio::test]
async fn a_policy_that_cannot_work_is_told() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).policy(|_| KeyPolicy::new().max_uses(0)).build().unwrap();
    pool.acquire(&1).await.unwrap_err();
    assert_eq!(seen.take(), [row("error", "the policy of a key cannot work")].into());
}

#[tokio::test(start_paused = true)]
async fn callers_who_go_away_without_a_lease_are_told() {
    let seen = Seen::default();
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).wait_timeout(secs(1)).build().unwrap();
    let lease = pool.acquire(&1).await.unwrap();
    let _guard = set_default(seen.clone());
    pool.acquire(&1).await.unwrap_err();
    assert_eq!(seen.take(), [row("trace", "not served")].into());
    let asked = ask(&pool, 1).await;
    asked.abort();
    settle().await;
    assert_eq!(seen.take(), [row("trace", "cancelled")].into());
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_not_used_again_is_told_with_the_reason() {
    for method in [Method::Recycle, Method::HealthCheck] {
        for step in [Step::err("dirty"), Step::panic(), Step::hang()] {
            let seen = seen_of_a_use(|fake| _ = fake.script(method, [step])).await;
            assert!(seen.contains(&row("warn", UNUSABLE)), "{method:?}: {seen:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_manager_is_told_where_it_is_contained() {
    let seen = seen_of_a_use(|fake| _ = fake.script(Method::Reuse, [Step::panic()])).await;
    assert!(seen.contains(&row("error", "reuse panicked")), "{seen:?}");
    let seen = seen_of_a_use(|fake| {
        fake.script(Method::Recycle, [Step::err("dirty")]).destroy_script([Step::panic()]);
        fake.script(Method::DestroyNow, [Step::panic()]);
    })
    .await;
    assert!(seen.contains(&row("error", "a resource's end panicked")), "{seen:?}");
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let fake = FakeManager::new().on_describe(|_| std::panic::resume_unwind(Box::new("no")));
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    assert!(seen.take().contains(&row("error", "the manager panicked")));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_resource_is_told() {
    let seen = seen_of_a_use(|fake| {
        fake.script(Method::Recycle, [Step::err("dirty")]).destroy_script([Step::hang()]);
    })
    .await;
    let told = row("error", "a destroy missed its deadline; its resource is abandoned");
    assert!(seen.contains(&told), "{seen:?}");
}

#[tokio::test]
async fn a_manager_that_blocks_its_thread_is_told() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let fake = FakeManager::new().create_script([Step::block(ms(120))]);
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    let told = row("warn", "the manager blocks its thread; use spawn_blocking");
    assert!(seen.take().contains(&told));
}

#[test]
fn a_job_that_is_lost_with_its_runtime_is_told() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let gate = Gate::new();
    let fake = FakeManager::new().recycle_script([Step::ok().at(&gate)]);
    let pool = pool_of(1, &fake).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        drop(pool.acquire(&1).await.unwrap());
        gate.until_waiting(1).await;
    });
    seen.take();
    drop(runtime);
    assert_eq!(seen.take(), [row("warn", "a job was lost")].into());
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}

#[test]
fn the_table_of_events_names_every_event_of_the_source_and_no_other() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut emitted = BTreeSet::new();
    for path in files_below(&source).into_iter().filter(|path| !path.ends_with("src/events.rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        for call in text.split("tracing::").skip(1) {
            let Some((level, rest)) = call.split_once("!(") else { continue };
            let message = rest.split("\"poolyard: ").nth(1).and_then(|rest| rest.split('"').next());
            emitted
                .insert((level.to_owned(), format!("poolyard: {}", message.expect("events have a message"))));
        }
    }
    let named: BTreeSet<_> = table().into_iter().map(|(level, message, _)| (level, message)).collect();
    assert_eq!(emitted, named);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_costs_no_lease() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    drop(pool.acquire(&1).await.unwrap());
    settle().await;
    let guard = set_default(Panics);
    drop(pool.try_acquire(&1).unwrap());
    drop(guard);
    settle().await;
    assert_eq!((counts(&pool).idle, counts(&pool).leased), (1, 0));
    end(pool, &fake).await;
}

#[tokio::test(start_paused = true)]
async fn a_return_that_is_waited_for_is_told_like_any_other() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).build().unwrap();
    Lease::release(pool.acquire(&1).await.unwrap()).await.unwrap();
    assert!(seen.take().contains(&row("trace", "returned")));
}
