//! Finding and removing what dead owners left behind.
//!
//! The agents end with their owners, and the engine removes what has ended: so what is left is
//! little. Containers that were created and never started, containers without an agent, networks
//! and volumes carry their owner's name, and whoever comes later checks whether it lives: by its
//! process where that can be seen, elsewhere by its lease.
//!
//! The lease is a time in the names of the owner's containers, renewed by renaming one of them.
//! Names are the only thing of a container that can be changed, so no extra container is needed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::engine::Engine;
use crate::engine::types::Listed;
use crate::error::Error;
use crate::owner::{OWNER, Owner};
use crate::shop::{Counts, Shop};

/// How long an owner that cannot be seen is taken to live after its last sign.
const LEASE: Duration = Duration::from_secs(300);

/// What a sweep removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reaped {
    /// Ids of containers.
    pub containers: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// What could not be removed, and why.
    pub failures: Vec<String>,
}

impl Reaped {
    /// How many things were removed.
    pub fn len(&self) -> usize {
        self.containers.len() + self.networks.len() + self.volumes.len()
    }

    /// Whether there was nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn note(
        &mut self,
        name: &str,
        result: Result<(), Error>,
        list: impl FnOnce(&mut Self) -> &mut Vec<String>,
    ) {
        match result {
            Ok(()) => list(self).push(name.to_owned()),
            Err(e) => self.failures.push(format!("{name}: {e}")),
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Until when a name made now vouches for its owner, in seconds since 1970.
pub(crate) fn lease_end() -> u64 {
    now() + LEASE.as_secs()
}

fn lease_of(container: &Listed) -> Option<u64> {
    container.names.iter().filter_map(|n| n.rsplit('-').next()?.parse().ok()).max()
}

/// One round of a living manager: renews its lease and sweeps.
pub(crate) async fn round(shop: &Arc<Shop>) {
    renew(shop).await;
    match sweep(&shop.engine).await {
        Ok(reaped) => {
            Counts::add(&shop.counts.reaped, reaped.len() as u64);
            if !reaped.is_empty() || !reaped.failures.is_empty() {
                tracing::info!(?reaped, "removed what dead owners left behind");
            }
        }
        Err(error) => tracing::debug!(%error, "cannot sweep now"),
    }
}

/// Renames one of our containers. One that ends meanwhile is no harm: another is taken next time.
async fn renew(shop: &Shop) {
    for id in shop.watch.ids() {
        if shop.engine.rename(&id, &shop.next_name()).await.is_ok() {
            return;
        }
    }
}

/// Removes what belongs to dead owners, whoever they were.
pub(crate) async fn sweep(engine: &Engine) -> Result<Reaped, Error> {
    let containers = engine.list(OWNER).await?;
    let networks = engine.networks(OWNER).await?;
    let volumes = engine.volumes(OWNER).await?;
    let mut judge = Judge::new(&containers);
    let mut reaped = Reaped::default();
    for container in &containers {
        if judge.is_dead(&container.labels) {
            reaped.note(&container.id, engine.remove(&container.id).await, |r| &mut r.containers);
        }
    }
    // Only now: a network cannot be removed while a container uses it.
    for network in networks {
        if judge.is_dead(&network.labels) {
            reaped.note(&network.name, engine.remove_network(&network.id).await, |r| &mut r.networks);
        }
    }
    for volume in volumes {
        if judge.is_dead(&volume.labels) {
            reaped.note(&volume.name, engine.remove_volume(&volume.name).await, |r| &mut r.volumes);
        }
    }
    Ok(reaped)
}

/// Says whose owners are dead.
struct Judge {
    /// The latest lease of each owner.
    leases: HashMap<String, u64>,
    verdicts: HashMap<String, bool>,
    now: u64,
}

impl Judge {
    fn new(containers: &[Listed]) -> Judge {
        let mut leases = HashMap::new();
        for container in containers {
            if let (Some(owner), Some(end)) = (container.labels.get(OWNER), lease_of(container)) {
                let latest = leases.entry(owner.clone()).or_insert(end);
                *latest = end.max(*latest);
            }
        }
        Judge { leases, verdicts: HashMap::new(), now: now() }
    }

    fn is_dead(&mut self, labels: &HashMap<String, String>) -> bool {
        let Some(label) = labels.get(OWNER) else { return false };
        if let Some(verdict) = self.verdicts.get(label) {
            return *verdict;
        }
        let verdict = match Owner::parse(label) {
            // Not of our making, or of a version that we do not know.
            None => false,
            Some(owner) => owner.is_alive().map_or_else(|| self.lease_is_over(label), |alive| !alive),
        };
        self.verdicts.insert(label.clone(), verdict);
        verdict
    }

    /// An owner that we cannot see. Without a container there is no lease and no telling: then its
    /// networks and volumes are left to somebody who can see it.
    fn lease_is_over(&self, label: &str) -> bool {
        self.leases.get(label).is_some_and(|end| *end < self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(owner: &str, name: &str) -> Listed {
        let labels = HashMap::from([(OWNER.to_owned(), owner.to_owned())]);
        Listed { labels, names: vec![name.to_owned()], ..Listed::default() }
    }

    fn is_dead(containers: &[Listed]) -> bool {
        Judge::new(containers).is_dead(&containers[0].labels)
    }

    #[test]
    fn a_live_owner_is_never_touched_whatever_its_lease_says() {
        let label = Owner::this_process().label();
        assert!(!is_dead(&[listed(&label, "/poolyard-x-1")]));
    }

    #[test]
    fn a_dead_process_of_this_machine_needs_no_waiting() {
        let alive = Owner::this_process().label();
        let (rest, serial) = alive.rsplit_once('.').unwrap();
        let (rest, start) = rest.rsplit_once('.').unwrap();
        let start: u64 = start.parse().unwrap();
        let dead = format!("{rest}.{}.{serial}", start + 1);
        assert!(is_dead(&[listed(&dead, &format!("/poolyard-x-{}", lease_end()))]));
    }

    #[test]
    fn an_owner_that_cannot_be_seen_lives_as_long_as_its_latest_lease() {
        let old = listed("elsewhere.1.2.0", "/poolyard-x-5");
        let new = listed("elsewhere.1.2.0", &format!("/poolyard-x-{}", lease_end()));
        assert!(is_dead(std::slice::from_ref(&old)));
        assert!(!is_dead(&[old, new]));
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        assert!(!is_dead(&[listed("somebody", "/x-5")]));
    }
}
