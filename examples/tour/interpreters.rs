//! The section of the custom manager: interpreters that evaluate expressions over pipes.

use std::time::{Duration, Instant};

use poolyard::{Lease, Pool};
use poolyard_examples::interpreter::{Interpreter, Interpreters, Language};

use crate::measure::{duration, repeat};
use crate::memory;
use crate::screen::Screen;
use crate::section::{Numbers, Outcome, Section};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How many interpreters are kept warm.
const WARM: usize = 2;

pub(crate) async fn show(screen: &Screen) -> Section {
    let Some(language) = Language::best() else {
        return Section {
            name: "custom manager: interpreters".into(),
            outcome: Outcome::Missing {
                why: "There is neither python3 nor sh in the PATH.".into(),
                remedy: "On Debian or Ubuntu: apt-get install python3".into(),
            },
        };
    };
    let program = language.program();
    screen.heading(&format!("custom manager: {program} evaluates an expression, over pipes"));
    let outcome = numbers(screen, language).await.map_or_else(Outcome::Failed, Outcome::Works);
    Section { name: format!("custom manager: {program}"), outcome }
}

/// What is evaluated, and what must come out.
fn job(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::Python => ("sum(n * n for n in range(100))", "328350"),
        Language::Shell => ("99 * 100 * 199 / 6", "328350"),
    }
}

async fn numbers(screen: &Screen, language: Language) -> Result<Numbers, Failure> {
    let cold = repeat(screen, "a fresh process each time", 60, Duration::from_secs(5), async || {
        fresh(language).await
    });
    let cold = cold.await?;

    let pool = Pool::builder(Interpreters).name("interpreters").max_total(WARM).build()?;
    pool.warm(&language, WARM).await;
    let pooled = repeat(screen, "out of a pool of two", 3000, Duration::from_secs(5), async || {
        pooled(&pool, language).await
    });
    let pooled = pooled.await?;
    tell_counters(screen, &pool);

    let memory = memory_of_all(&pool, language).await?;
    show_a_death(screen, &pool, language).await?;
    pool.close(Duration::from_secs(5)).await;
    Ok(Numbers { cold, pooled, memory })
}

/// From nothing to the answer.
async fn fresh(language: Language) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut interpreter = Interpreter::start(language, drop)?;
    evaluate(&mut interpreter, language).await?;
    let took = start.elapsed();
    interpreter.end().await;
    Ok(took)
}

/// From asking the pool to the answer. The interpreter is cleaned after its return, while the next
/// job has another one.
async fn pooled(pool: &Pool<Interpreters>, language: Language) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut interpreter = pool.acquire(&language).await?;
    evaluate(&mut interpreter, language).await?;
    Ok(start.elapsed())
}

async fn evaluate(interpreter: &mut Interpreter, language: Language) -> Result<(), Failure> {
    let (expression, expected) = job(language);
    match interpreter.evaluate(expression).await? {
        value if value == expected => Ok(()),
        value => Err(format!("{expression} gave {value} instead of {expected}").into()),
    }
}

fn tell_counters(screen: &Screen, pool: &Pool<Interpreters>) {
    let counters = pool.snapshot().counters;
    screen.line(&format!(
        "  made {}, given out {} times, cleaned and verified {} times",
        counters.created, counters.returned, counters.recycled
    ));
}

/// What one warm interpreter takes: the mean of all.
async fn memory_of_all(pool: &Pool<Interpreters>, language: Language) -> Result<Option<u64>, Failure> {
    let mut leases = Vec::new();
    for _ in 0..WARM {
        leases.push(pool.acquire(&language).await?);
    }
    let pids: Vec<u32> = leases.iter().map(|lease| lease.pid()).collect();
    Ok(memory::proportional_mean(&pids))
}

/// One interpreter is killed while it is in use: its user hears of it, the next one is not affected.
async fn show_a_death(screen: &Screen, pool: &Pool<Interpreters>, language: Language) -> Result<(), Failure> {
    let victim = pool.acquire(&language).await?;
    let start = Instant::now();
    kill(victim.pid())?;
    Lease::gone(&victim).await;
    screen.line(&format!("  one killed with -9: its user is told after {}", duration(start.elapsed())));
    drop(victim);
    let next = pooled(pool, language).await;
    let next = next.map_err(|error| format!("after the death of another: {error}"))?;
    screen.line(&format!("  the next user has an answer after {}", duration(next)));
    Ok(())
}

fn kill(pid: u32) -> Result<(), Failure> {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).ok_or("a process has an id")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}
