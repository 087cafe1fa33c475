//! [`Section`]: what one backend has to show.

use std::error::Error;

use crate::measure::Samples;

/// One backend and how it fared.
pub(crate) struct Section {
    /// The backend and the job, in a few words.
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
}

pub(crate) enum Outcome {
    /// It works here; these are the numbers.
    Works(Numbers),
    /// This machine lacks something.
    Missing {
        why: String,
        /// What a person can do about it.
        remedy: String,
    },
    /// It should work here and does not.
    Failed(Box<dyn Error + Send + Sync>),
}

pub(crate) struct Numbers {
    /// The job with a resource of its own, from its making to the answer.
    pub(crate) cold: Samples,
    /// The job with a resource out of the pool, from asking for it to the answer.
    pub(crate) pooled: Samples,
    /// Memory of one warm resource, in bytes, where the system tells.
    pub(crate) memory: Option<u64>,
}
