//! What several examples share; the examples themselves are the files beside this one.

pub mod interpreter;
#[cfg(target_os = "linux")]
pub mod judging;
pub mod live;
pub mod load;
pub mod proxy;

/// The examples of the READMEs compile and run.
#[cfg(doctest)]
mod readmes {
    #[doc = include_str!("../README.md")]
    mod poolyard {}
    #[doc = include_str!("../pool-core/README.md")]
    mod core {}
    #[doc = include_str!("../pool-exec/README.md")]
    mod exec {}
}
