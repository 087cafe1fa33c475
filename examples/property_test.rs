//! Shows how the plans of the test-kit find a bug in a manager of your own, and shrink it to the
//! shortest story: notebooks of which only the first page is torn out.

use std::convert::Infallible;
use std::error::Error;

use poolyard::{Context, Lease, Manager, Pool};
use poolyard_testkit::laws::{PoolOp, PoolPlan, pool_plans};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

/// Hands out notebooks that are empty, or should be.
#[derive(Clone, Copy)]
struct Notebooks {
    /// How many pages are torn out after each user.
    tears_out: usize,
}

impl Manager for Notebooks {
    type Key = usize;
    type Resource = Vec<u32>;
    type Error = Infallible;

    async fn create(&self, _: &usize, _: &Context) -> Result<Vec<u32>, Infallible> {
        Ok(Vec::new())
    }

    async fn recycle(&self, _: &usize, pages: &mut Vec<u32>, _: &Context) -> Result<(), Infallible> {
        pages.drain(..self.tears_out.min(pages.len()));
        Ok(())
    }
}

/// The property: whatever its users do, who is given a notebook finds no page written on.
async fn every_notebook_is_empty(notebooks: Notebooks, plan: &PoolPlan) -> Result<(), String> {
    let pool = Pool::builder(notebooks).max_total(plan.max_total).build().map_err(|e| e.to_string())?;
    let mut leases: Vec<Lease<Notebooks>> = Vec::new();
    for op in &plan.ops {
        match *op {
            PoolOp::Start(key) if leases.len() < plan.max_total => {
                let notebook = pool.acquire(&(key % 2)).await.map_err(|error| error.to_string())?;
                if !notebook.is_empty() {
                    return Err(format!("a new user reads {:?}", *notebook));
                }
                leases.push(notebook);
            }
            PoolOp::Dirty(lease, page) if !leases.is_empty() => {
                let lease = lease % leases.len();
                leases[lease].push(page);
            }
            PoolOp::Return(lease) if !leases.is_empty() => drop(leases.swap_remove(lease % leases.len())),
            PoolOp::Discard(lease) if !leases.is_empty() => {
                Lease::discard(leases.swap_remove(lease % leases.len()));
            }
            // These notebooks do not break, and nobody here loses patience.
            _ => {}
        }
    }
    Ok(())
}

/// Tries random plans; the shortest one that breaks the property, and how it does.
fn search(notebooks: Notebooks) -> Option<(PoolPlan, String)> {
    let config =
        Config { cases: 500, max_shrink_iters: 100_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    let found = runner.run(&pool_plans(60), |plan| {
        runtime.block_on(every_notebook_is_empty(notebooks, &plan)).map_err(TestCaseError::fail)
    });
    match found {
        Err(TestError::Fail(reason, plan)) => Some((plan, reason.message().to_owned())),
        _ => None,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match search(Notebooks { tears_out: usize::MAX }) {
        None => println!("all pages are torn out: no plan finds a written page"),
        Some((plan, reason)) => return Err(format!("{reason} after {:?}", plan.ops).into()),
    }
    let (plan, reason) = search(Notebooks { tears_out: 1 }).ok_or("the bug was not found")?;
    println!("one page is torn out: {reason}, in a pool of {}, after", plan.max_total);
    plan.ops.iter().for_each(|op| println!("    {op:?}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notebooks_without_their_pages_are_always_empty() {
        assert!(search(Notebooks { tears_out: usize::MAX }).is_none());
    }

    #[test]
    fn a_page_that_is_left_is_found_and_told_in_the_shortest_way() {
        let (plan, _) = search(Notebooks { tears_out: 1 }).expect("the bug is found");
        let dirty = plan.ops.iter().filter(|op| matches!(op, PoolOp::Dirty(..))).count();
        // Somebody takes one, writes two pages, gives it back; somebody takes it again. A second
        // notebook may be left in the story where leaving out a single step would spoil it.
        assert!(dirty == 2 && (5..=18).contains(&plan.ops.len()), "{:?}", plan.ops);
    }
}
