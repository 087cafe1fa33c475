//! Experiments.
use poolyard_core::Adaptive;
use poolyard_simulation::{sizing::Sizing, traffic::Traffic};
use std::time::Duration;

fn main() {
    let step = Duration::from_secs(60);
    for traffic in Traffic::ALL {
        for seed in [1, 2, 3] {
            let trace = traffic.trace(seed);
            for share in [0.95, 0.96] {
                let a = Adaptive { share, ..Adaptive::default() };
                let r = Sizing::Adaptive(a).replay(&trace, step);
                println!(
                    "{} seed {seed} adaptive s{share}: {:.4} rs {:.0} cr {}",
                    traffic.name(),
                    r.warm_share(),
                    r.resource_seconds,
                    r.creations
                );
                let mut n = 1;
                loop {
                    let r2 = Sizing::PerKey(n).replay(&trace, step);
                    if r2.warm_share() >= r.warm_share() {
                        println!(
                            "   perkey {n} {:.4} {:.0} ratio {:.3}",
                            r2.warm_share(),
                            r2.resource_seconds,
                            r.resource_seconds / r2.resource_seconds
                        );
                        break;
                    }
                    n += 1
                }
                let mut n = 10;
                loop {
                    let r2 = Sizing::Total(n).replay(&trace, step);
                    if r2.warm_share() >= r.warm_share() {
                        println!(
                            "   total {n} {:.4} {:.0} ratio {:.3}",
                            r2.warm_share(),
                            r2.resource_seconds,
                            r.resource_seconds / r2.resource_seconds
                        );
                        break;
                    }
                    n += 1
                }
            }
        }
    }
}
