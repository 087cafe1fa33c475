//! One file for each subject.

mod asyncband;
mod bb8;
mod deadpool;
mod fast_pool;
mod fastpool;
pub(crate) mod floor;
mod mobc;
pub(crate) mod pingora;
pub(crate) mod poolyard;
mod r2d2;

use crate::subject::{Subject, Tasks};

/// The name of our subject with every option on, until its rows are named.
pub(crate) const ALL_ON: &str = "poolyard/all_on";

/// What every pool of the benchmark holds.
pub(crate) type Resource = u64;

/// All subjects without keys, ours first.
pub(crate) fn all() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(Tasks::<poolyard::Default>::new()),
        Box::new(Tasks::<poolyard::AllOn>::new()),
        Box::new(Tasks::<deadpool::Deadpool>::new()),
        Box::new(Tasks::<bb8::Bb8>::new()),
        Box::new(Tasks::<mobc::Mobc>::new()),
        Box::new(Tasks::<fast_pool::FastPool>::new()),
        Box::new(Tasks::<fastpool::Fastpool>::new()),
        Box::new(Tasks::<asyncband::Asyncband>::new()),
        Box::new(r2d2::R2d2),
        Box::new(Tasks::<floor::MutexVec>::new()),
        Box::new(Tasks::<floor::SemaphoreVec>::new()),
    ]
}
