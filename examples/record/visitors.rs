//! The traffic that is recorded: tenants whose visitors come in sessions.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use poolyard::{Context, Manager, Pool, Reason};
use poolyard_examples::interpreter::{Interpreter, InterpreterError, Interpreters, Language};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub(crate) const TENANTS: u32 = 6;

/// Interpreters, for each tenant its own.
pub(crate) struct Tenants(pub(crate) Language);

impl Manager for Tenants {
    type Key = u32;
    type Resource = Interpreter;
    type Error = InterpreterError;

    async fn create(&self, _: &u32, cx: &Context) -> Result<Interpreter, InterpreterError> {
        Interpreters.create(&self.0, cx).await
    }

    async fn recycle(
        &self,
        _: &u32,
        interpreter: &mut Interpreter,
        cx: &Context,
    ) -> Result<(), InterpreterError> {
        Interpreters.recycle(&self.0, interpreter, cx).await
    }

    async fn destroy(&self, _: &u32, interpreter: &mut Interpreter, reason: Reason, cx: &Context) {
        Interpreters.destroy(&self.0, interpreter, reason, cx).await;
    }
}

/// Visitors of all tenants, for `span`.
pub(crate) async fn come(pool: &Pool<Tenants>, span: Duration) {
    let end = Instant::now() + span;
    let mut tenants = JoinSet::new();
    for tenant in 0..TENANTS {
        tenants.spawn(sessions(pool.clone(), tenant, end));
    }
    tenants.join_all().await;
}

/// One session after the other, with pauses that grow with the number of the tenant.
async fn sessions(pool: Pool<Tenants>, tenant: u32, end: Instant) {
    let mut visits = JoinSet::new();
    while Instant::now() < end {
        sleep(pause(4.0 * f64::from(tenant + 1))).await;
        for _ in 0..5 + (pause(15.0).as_secs() as u32).min(60) {
            if Instant::now() < end {
                visits.spawn(visit(pool.clone(), tenant));
                sleep(pause(0.15)).await;
            }
        }
    }
    visits.join_all().await;
}

/// A visitor asks something, thinks about the answer, and leaves.
async fn visit(pool: Pool<Tenants>, tenant: u32) {
    let Ok(mut interpreter) = pool.acquire(&tenant).await else { return };
    if interpreter.evaluate("6 * 7").await.is_ok() {
        sleep(pause(0.2)).await;
    }
}

/// Exponentially distributed around `mean` seconds, as gaps between independent visitors are.
fn pause(mean: f64) -> Duration {
    let random = RandomState::new().hash_one(0);
    let unit = (random >> 11) as f64 / (1u64 << 53) as f64;
    Duration::from_secs_f64(-mean * (1.0 - unit).ln())
}
