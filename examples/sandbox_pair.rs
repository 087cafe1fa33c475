//! Shows two programs in two sandboxes that talk to each other: a guesser, and a judge that knows the number.
//!
//! `cargo run --release --example sandbox_pair`

use std::time::Duration;

use poolyard::exec::{Command, ExecFds, Fds, Limits};
use poolyard::linux_ns::{LinuxNs, SandboxSpec};

/// Halves the range until the judge is content. `>&2` is for the people who watch.
const GUESSER: &str = "low=1; high=100
    while :; do
        guess=$(( (low + high) / 2 )); echo $guess; echo \"is it $guess?\" >&2
        read answer
        case $answer in less) high=$((guess - 1)) ;; more) low=$((guess + 1)) ;; *) exit 0 ;; esac
    done";

const JUDGE: &str = "while read guess; do
        if [ $guess -gt 42 ]; then echo less; elif [ $guess -lt 42 ]; then echo more; else echo right; exit 0; fi
    done
    exit 1";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ns = LinuxNs::new()?;
    let spec = SandboxSpec::default();
    let (a, b) = (ns.sandbox(&spec).await?, ns.sandbox(&spec).await?);
    // One pipe in each direction; this process keeps no end of them.
    let (guesses_out, guesses_in) = std::io::pipe()?;
    let (answers_out, answers_in) = std::io::pipe()?;
    let limits = Limits::new().wall_time(Duration::from_secs(5));

    let guesser = Command::shell(GUESSER).limits(limits.clone());
    let judge = Command::shell(JUDGE).limits(limits);
    let mut guesser = a.spawn_with_fds(&guesser, Fds::new().give(0, answers_out).give(1, guesses_in)).await?;
    let mut judge = b.spawn_with_fds(&judge, Fds::new().give(0, guesses_out).give(1, answers_in)).await?;

    let (guesser, judge) = (guesser.wait().await?, judge.wait().await?);
    print!("{}", guesser.stderr.text());
    println!("the judge says {:?}, the guesser {:?}", judge.verdict, guesser.verdict);
    Ok(())
}
