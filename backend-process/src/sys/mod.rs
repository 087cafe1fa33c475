//! System calls, and the only unsafe code of this crate.

pub(crate) mod fds;
pub(crate) mod setup;
pub(crate) mod spawn;
pub(crate) mod touch;
pub(crate) mod wait;
