//! Shows warm Python workers that evaluate functions of a user, each with its own deadline and with a
//! crash that hurts nobody else.
//!
//! ```text
//! cargo run --release -p poolyard-examples --example process_python
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use poolyard::Pool;
use poolyard::process::{Attrs, Deadline, JsonLines, Limit, ProcessManager, WorkerSpec};

/// Reads a line with an expression in Python, answers with a line that holds its value.
const WORKER: &str = r#"
import json, math, sys
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    try:
        answer = {"value": repr(eval(json.loads(line), {"math": math}))}
    except Exception as error:
        answer = {"error": repr(error)}
    print(json.dumps(answer), file=answers, flush=True)
"#;

type Evaluator = JsonLines<str, serde_json::Value>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let manager = ProcessManager::with_protocol(Evaluator::default())?;
    let pool = Pool::builder(manager).max_total(4).build()?;
    let python = WorkerSpec::command("python3")
        .args(["-u", "-c", WORKER])
        .attrs(Attrs::new().nice(5).rlimit(Limit::AddressSpace, 1 << 30).cpu_time(Duration::from_secs(60)))
        .max_calls(10_000)
        .key();

    let endless = "[0 for _ in iter(int, 1)]";
    let crash = "__import__('os')._exit(3)";
    for program in ["6 * 7", "math.factorial(20)", "1 / 0", endless, crash, "'still here'"] {
        let begun = Instant::now();
        let mut worker = pool.acquire(&python).await?;
        match worker.call(program, Deadline::after(Duration::from_millis(300))).await {
            Ok(answer) => println!("{program:32} {answer} ({:?})", begun.elapsed()),
            Err(error) => println!("{program:32} {error}"),
        }
    }
    println!("{:?}", pool.snapshot().counts);
    pool.close(Duration::from_secs(2)).await;
    Ok(())
}
