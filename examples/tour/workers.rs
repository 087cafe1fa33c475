//! The section of worker processes: functions in Python, without a fresh interpreter for each.

use std::time::Duration;

use poolyard::process::{Attrs, Deadline, JsonLines, ProcessManager, WorkerSpec};
use poolyard::{Lease, Pool};

use crate::compare::{Comparison, Failure, compare};
use crate::memory;
use crate::screen::Screen;
use crate::section::{Numbers, Outcome, Section};

const NAME: &str = "process: python3 worker";
const WARM: usize = 2;

/// Reads a line of JSON, answers with a line of JSON.
const WORKER: &str = r"
import json, statistics, sys
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    print(json.dumps(statistics.median(json.loads(line))), file=answers, flush=True)
";

type Numeric = JsonLines<Vec<u32>, f64>;

pub(crate) async fn show(screen: &Screen) -> Section {
    let python = std::process::Command::new("python3").arg("-V").output();
    let outcome = if python.is_err() {
        Outcome::Missing {
            why: "There is no python3 in the PATH.".into(),
            remedy: "On Debian or Ubuntu: apt-get install python3".into(),
        }
    } else {
        screen.heading("process: a Python worker computes a median, over JSON lines");
        numbers(screen).await.map_or_else(Outcome::Failed, Outcome::Works)
    };
    Section { name: NAME.into(), outcome }
}

async fn numbers(screen: &Screen) -> Result<Numbers, Failure> {
    let manager = ProcessManager::with_protocol(Numeric::default())?;
    let pool = Pool::builder(manager).name("workers").max_total(WARM).build()?;
    let key = WorkerSpec::command("python3").args(["-u", "-c", WORKER]).attrs(Attrs::new().nice(1)).key();
    let comparison = Comparison {
        key: &key,
        warm: WARM,
        labels: ["a fresh worker each time", "out of a pool of two"],
        times: [60, 3000],
    };
    let [cold, pooled] = compare(screen, &pool, &comparison, async |worker| median(worker).await).await?;
    let worker = pool.acquire(&key).await?;
    let memory = memory::proportional(worker.pid().cast_unsigned());
    drop(worker);
    pool.close(Duration::from_secs(5)).await;
    Ok(Numbers { cold, pooled, memory })
}

async fn median(worker: &mut Lease<ProcessManager<Numeric>>) -> Result<(), Failure> {
    let deadline = Deadline::after(Duration::from_secs(10));
    match worker.call(&vec![9, 1, 42, 77, 50], deadline).await? {
        42.0 => Ok(()),
        other => Err(format!("the median of 1, 9, 42, 50, 77 is not {other}").into()),
    }
}
