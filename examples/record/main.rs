//! Shows how to record what callers do with a live pool, from its tracing events, for the simulator:
//!
//! ```text
//! cargo run --release --example record -- 120 recorded.csv
//! cargo run --release -p poolyard-simulation -- recorded.csv
//! ```
//!
//! To record a pool of yours, take `recorder.rs` and add a `Recorder` to your subscriber. Events name
//! resources by ids of their pool, so record one pool at a time.

mod recorder;
mod visitors;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use poolyard::Pool;
use poolyard_examples::interpreter::Language;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use self::recorder::Recorder;
use self::visitors::Tenants;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().map_or(Ok(20), |arg| arg.parse())?;
    let file = args.next().map_or_else(|| std::env::temp_dir().join("recorded.csv"), PathBuf::from);
    let language = Language::best().ok_or("neither python3 nor sh is installed; install one of them")?;

    let recorder = Recorder::create(&file)?;
    tracing_subscriber::registry().with(recorder.clone().with_filter(LevelFilter::TRACE)).init();

    let pool = Pool::builder(Tenants(language)).max_total(24).build()?;
    println!("recording interpreters of {} tenants for {seconds} s", visitors::TENANTS);
    visitors::come(&pool, Duration::from_secs(seconds)).await;
    recorder.finish()?;

    let counters = pool.snapshot().counters;
    let (ready, waited) = (counters.acquired_ready, counters.acquired_waited);
    println!("{} callers, {ready} of them served at once; see {}", ready + waited, file.display());
    println!("replay it: cargo run --release -p poolyard-simulation -- {}", file.display());
    pool.close(Duration::from_secs(10)).await;
    Ok(())
}
