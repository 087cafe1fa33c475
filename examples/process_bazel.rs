//! Shows a client of Bazel's persistent workers: a compiler that stays warm between actions.
//!
//! ```text
//! cargo run --release -p poolyard-examples --example process_bazel
//! ```
//!
//! The worker here is a small one in Python; any program that understands `--persistent_worker` will do,
//! such as those made with npm's `@bazel/worker`.

use std::error::Error;
use std::time::{Duration, Instant};

use poolyard::Pool;
use poolyard::process::{Bazel, BazelFormat, Deadline, ProcessManager, WorkRequest, WorkerSpec};

const COMPILER: &str = r#"
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    source = request["arguments"][-1]
    try:
        compile(source, "action", "exec")
        code, output = 0, f"compiled {len(source)} bytes"
    except SyntaxError as error:
        code, output = 1, str(error)
    print(json.dumps({"exitCode": code, "output": output, "requestId": request["requestId"]}), flush=True)
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let manager = ProcessManager::with_protocol(Bazel::new(BazelFormat::Json))?;
    let pool = Pool::builder(manager).max_total(4).build()?;
    let compiler = WorkerSpec::command("python3").args(["-u", "-c", COMPILER, "--persistent_worker"]).key();

    for source in ["print('one')", "x = [n for n in range(9)]", "def broken(:", "import os"] {
        let begun = Instant::now();
        let mut worker = pool.acquire(&compiler).await?;
        let request = WorkRequest::new(["--source", source]);
        let response = worker.call(&request, Deadline::after(Duration::from_secs(10))).await?;
        let took = begun.elapsed();
        println!("{source:28} exit code {}: {} ({took:?})", response.exit_code, response.output);
    }
    pool.close(Duration::from_secs(2)).await;
    Ok(())
}
