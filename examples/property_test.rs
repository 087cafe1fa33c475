//! Shows how the test-kit's model finds a bug in a manager of your own, and shrinks it to the
//! shortest story: notebooks of which only the first page is torn out.

use std::convert::Infallible;
use std::error::Error;

use poolyard::{Context, Manager};
use poolyard_testkit::model::{self, Effort, World};
use proptest::prelude::*;

/// Hands out notebooks that are empty, or should be.
#[derive(Clone, Copy)]
struct Notebooks {
    /// How many pages are torn out after each user.
    tears_out: usize,
}

impl Manager for Notebooks {
    type Key = &'static str; // the colour
    type Resource = Vec<u32>;
    type Error = Infallible;

    async fn create(&self, _: &&'static str, _: &Context) -> Result<Vec<u32>, Infallible> {
        Ok(Vec::new())
    }

    async fn recycle(&self, _: &&'static str, pages: &mut Vec<u32>, _: &Context) -> Result<(), Infallible> {
        pages.drain(..self.tears_out.min(pages.len()));
        Ok(())
    }
}

/// Says what callers ask for, what they do with a notebook, and what they expect of a new one.
struct School(Notebooks);

impl World for School {
    type Manager = Notebooks;

    fn manager(&self) -> Notebooks {
        self.0
    }

    fn keys(&self) -> BoxedStrategy<&'static str> {
        prop_oneof![Just("red"), Just("blue")].boxed()
    }

    async fn use_it(&self, pages: &mut Vec<u32>, way: u32) {
        let written = 1 + way as usize % 3;
        pages.extend(std::iter::repeat_n(way, written));
    }

    async fn expect(&self, _: &&'static str, pages: &mut Vec<u32>) -> Result<(), String> {
        if pages.is_empty() { Ok(()) } else { Err(format!("pages of somebody else: {pages:?}")) }
    }
}

/// Enough for the bug, in seconds of real time; `check` panics where `search` returns.
const EFFORT: Effort = Effort { cases: 60, ops: 40, seed: None, real_time: true };

/// Walks at random find the bug nearly always; these do always.
const FOUND: Effort = Effort { seed: Some(11_783_056_105_824_700_844), ..EFFORT };

fn main() -> Result<(), Box<dyn Error>> {
    let summary = model::search(&School(Notebooks { tears_out: usize::MAX }), &EFFORT)?;
    println!("all pages are torn out: {} users found what they may expect", summary.served);
    match model::search(&School(Notebooks { tears_out: 1 }), &FOUND) {
        Ok(_) => Err("one page is torn out, and nobody noticed".into()),
        Err(failure) => {
            println!("one page is torn out: {failure}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use poolyard_testkit::model::{Invariant, Op};

    #[test]
    fn a_pool_of_notebooks_without_their_pages_keeps_its_promises() {
        model::check(&School(Notebooks { tears_out: usize::MAX }), &EFFORT);
    }

    #[test]
    fn a_page_that_is_left_is_found_and_told_in_the_shortest_way() {
        let failure = model::search(&School(Notebooks { tears_out: 1 }), &FOUND).expect_err("it is found");
        assert_eq!(failure.broken.invariant, Invariant::Expected);
        // Somebody takes one, writes two pages, gives it back; somebody takes it again.
        let ops = &failure.plan.ops;
        assert_eq!(ops.iter().filter(|op| matches!(op, Op::Use(..))).count(), 1, "{failure}");
        assert!((4..=6).contains(&ops.len()), "{failure}");
    }
}
