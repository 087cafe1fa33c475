//! [`Invariant`]: what a pool promises, one sentence each.

use std::fmt;

/// A promise of every pool, whatever its manager and configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each says what it is in its sentence")]
pub enum Invariant {
    MaxTotal,
    MaxCost,
    MaxPerKey,
    MaxIdle,
    OwnKey,
    OneHand,
    Fit,
    Order,
    Wake,
    Refusal,
    Progress,
    Patience,
    Expiry,
    Account,
    OneEnd,
    NoneLeft,
    Expected,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 17] = [
        Invariant::MaxTotal,
        Invariant::MaxCost,
        Invariant::MaxPerKey,
        Invariant::MaxIdle,
        Invariant::OwnKey,
        Invariant::OneHand,
        Invariant::Fit,
        Invariant::Order,
        Invariant::Wake,
        Invariant::Refusal,
        Invariant::Progress,
        Invariant::Patience,
        Invariant::Expiry,
        Invariant::Account,
        Invariant::OneEnd,
        Invariant::NoneLeft,
        Invariant::Expected,
    ];

    /// What is promised.
    pub const fn sentence(self) -> &'static str {
        match self {
            Invariant::MaxTotal => "no more resources exist at once than max_total and max_surge allow",
            Invariant::MaxCost => "all resources together cost no more than max_cost",
            Invariant::MaxPerKey => "no key has more resources than max_per_key and max_surge allow",
            Invariant::MaxIdle => "no more resources are idle than max_idle and max_idle_per_key allow",
            Invariant::OwnKey => "a resource serves the key that it was made for, and no other",
            Invariant::OneHand => "a resource is in one hand at a time, a user's or the manager's",
            Invariant::Fit => "nobody is given a resource that is unclean, failed or should have left",
            Invariant::Order => "callers of one key are served in the order in which they came",
            Invariant::Wake => "a caller whose wait is over is woken",
            Invariant::Refusal => "nobody is refused without a cause",
            Invariant::Progress => "nobody waits for what is there or could be made",
            Invariant::Patience => "nobody waits for longer than wait_timeout",
            Invariant::Expiry => "nothing is idle for longer than idle_timeout and max_lifetime allow",
            Invariant::Account => "the pool's own figures are the sum of what happened",
            Invariant::OneEnd => "a resource is destroyed once, and not touched afterwards",
            Invariant::NoneLeft => "a closed pool serves nobody and leaves nothing",
            Invariant::Expected => "a new user finds what the world says it may expect",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// Which promise.
    pub invariant: Invariant,
    /// What shows it.
    pub evidence: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" ({:?}) is broken: {}", self.invariant, self.invariant, self.evidence)
    }
}
