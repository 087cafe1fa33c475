//! Something to watch: a pool of workshops for six tenants, and users who keep it busy. Nothing in it is
//! real but the pool.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use poolyard::{Context, Manager, Observer, Pool};
use tokio::time::sleep;

/// Makes workshops, slowly; one in forty cannot be made, and one in two hundred cannot be cleaned.
#[derive(Debug, Default)]
pub struct Workshops {
    made: AtomicU64,
    cleaned: AtomicU64,
}

/// What is pooled: a number to be told apart by.
#[derive(Debug)]
pub struct Workshop(u64);

/// Why a workshop could not be made or cleaned.
#[derive(Debug)]
pub struct OutOfMaterial;

impl fmt::Display for OutOfMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of material")
    }
}

impl std::error::Error for OutOfMaterial {}

impl Manager for Workshops {
    type Key = &'static str;
    type Resource = Workshop;
    type Error = OutOfMaterial;

    async fn create(&self, _: &&'static str, _: &Context) -> Result<Workshop, OutOfMaterial> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(30 + number * 7 % 40)).await;
        if number % 40 == 39 { Err(OutOfMaterial) } else { Ok(Workshop(number)) }
    }

    async fn recycle(&self, _: &&'static str, _: &mut Workshop, _: &Context) -> Result<(), OutOfMaterial> {
        let number = self.cleaned.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(1 + number % 4)).await;
        if number % 200 == 199 { Err(OutOfMaterial) } else { Ok(()) }
    }

    async fn health_check(
        &self,
        _: &&'static str,
        _: &mut Workshop,
        _: &Context,
    ) -> Result<(), OutOfMaterial> {
        sleep(Duration::from_millis(1)).await;
        Ok(())
    }

    fn describe(&self, workshop: &Workshop) -> Cow<'static, str> {
        format!("workshop {}", workshop.0).into()
    }
}

/// From the busiest to the one that comes rarely.
const TENANTS: [&str; 6] = ["red", "orange", "yellow", "green", "blue", "violet"];

/// Twenty users who come and go, until the pool is closed.
pub async fn run<O: Observer>(pool: Pool<Workshops, O>) {
    let users = (1..=20).map(|seed| tokio::spawn(user(pool.clone(), Dice(seed))));
    for user in users.collect::<Vec<_>>() {
        // A user ends when the pool does.
        let _ = user.await;
    }
}

async fn user<O: Observer>(pool: Pool<Workshops, O>, mut dice: Dice) {
    while !pool.snapshot().closed {
        // The smaller of two throws: the first tenants come more often.
        let tenant = TENANTS[dice.below(6).min(dice.below(6)) as usize];
        if let Ok(workshop) = pool.acquire(&tenant).await {
            sleep(Duration::from_millis(5 + dice.below(35))).await;
            drop(workshop);
        }
        sleep(Duration::from_millis(10 + dice.below(90))).await;
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
