//! Shows one pool that is shared by many tenants: when it is full and another tenant comes, the
//! least recently used idle resource makes room.

use std::convert::Infallible;
use std::time::Duration;

use poolyard::{Context, Manager, Pool, Reason};

/// Stands for something that is expensive to make and belongs to one tenant.
struct Workspace {
    tenant: &'static str,
    jobs: u32,
}

struct Workspaces;

impl Manager for Workspaces {
    type Key = &'static str;
    type Resource = Workspace;
    type Error = Infallible;

    async fn create(&self, tenant: &&'static str, _: &Context) -> Result<Workspace, Infallible> {
        println!("    made a workspace for {tenant}");
        Ok(Workspace { tenant, jobs: 0 })
    }

    async fn destroy(&self, tenant: &&'static str, workspace: &mut Workspace, reason: Reason, _: &Context) {
        println!("    ended the workspace of {tenant} after {} jobs: {reason}", workspace.jobs);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Room for three workspaces, and never more than two for one tenant.
    let pool = Pool::builder(Workspaces).max_total(3).max_per_key(2).build()?;

    for tenant in ["red", "green", "blue", "red", "yellow", "green"] {
        println!("{tenant} has a job");
        let mut workspace = pool.acquire(&tenant).await?;
        assert_eq!(workspace.tenant, tenant, "nobody is ever given another tenant's workspace");
        workspace.jobs += 1;
    }

    println!("at the end, the most recently used are there:");
    let mut idle = pool.resources();
    idle.sort_by_key(|resource| resource.idle_for);
    for resource in idle {
        println!("    {:6} {:?}, {} jobs", resource.key, resource.state, resource.uses);
    }
    pool.close(Duration::from_secs(1)).await;
    Ok(())
}
