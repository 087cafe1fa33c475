//! Shows how to end a program: stop giving out, wait for those who are still at work, and report
//! what they did not give back in time. Press Ctrl-C, or wait three seconds.

use std::time::Duration;

use poolyard::{AcquireError, CloseReport, Pool, from_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder(from_fn(|desk: &&'static str| {
        let desk = *desk;
        async move { Ok::<_, std::io::Error>(format!("the desk of {desk}")) }
    }))
    .build()?;

    for (worker, seconds) in [("anna", 1), ("ben", 1), ("carla", 4)] {
        let desk = pool.acquire(&worker).await?;
        tokio::spawn(async move {
            println!("{worker} works for {seconds} s at {}", *desk);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            println!("{worker} is done");
        });
    }

    tokio::select! {
        _ = tokio::signal::ctrl_c() => println!("Ctrl-C: closing"),
        _ = tokio::time::sleep(Duration::from_secs(3)) => println!("time is up: closing"),
    }

    report("after half a second", &pool.close(Duration::from_millis(500)).await);
    if let Err(AcquireError::Closed) = pool.acquire(&"dora").await {
        println!("dora comes too late: the pool is closed");
    }
    // Closing again is harmless: it only waits.
    report("after some more patience", &pool.close(Duration::from_secs(5)).await);
    Ok(())
}

fn report(when: &str, report: &CloseReport<&'static str>) {
    println!("{when}: {} ended, {} left", report.destroyed, report.left.len());
    for left in &report.left {
        let place = left.leased_at.map(ToString::to_string).unwrap_or_default();
        println!("    {} is {:?} for {:?}, acquired at {place}", left.key, left.state, left.leased_for);
    }
}
