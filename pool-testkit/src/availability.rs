//! [`Availability`]: whether this machine has what a test needs, said loudly and never silently.
//!
//! A test that cannot run is skipped by name and with the reason, past the capture of the test
//! runner's output. `POOLYARD_REQUIRE=docker,linux-ns` turns the skip of what it names into a
//! failure, so that a green run says what it seems to say.

use std::io::Write;

/// The environment variable that names what may not be skipped, separated by commas.
pub const REQUIRE: &str = "POOLYARD_REQUIRE";

/// Whether a test's needs are met on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// They are.
    Ready,
    /// They are not; the text says what is missing and what a person can do about it.
    Missing(String),
}

impl Availability {
    /// [`Ready`](Self::Ready) if `condition` holds, else [`Missing`](Self::Missing) with `reason`.
    pub fn when(condition: bool, reason: impl Into<String>) -> Self {
        if condition { Self::Ready } else { Self::Missing(reason.into()) }
    }
}

/// Says whether the test may go on. If not, prints one line with the reason.
///
/// ```no_run
/// use poolyard_testkit::availability::{Availability, require};
///
/// let engine = Availability::when(false, "no engine listens at /run/docker.sock; start one");
/// if !require("docker", &engine) {
///     return;
/// }
/// ```
///
/// # Panics
///
/// If it is missing and `POOLYARD_REQUIRE` names it.
pub fn require(name: &str, availability: &Availability) -> bool {
    let Availability::Missing(reason) = availability else { return true };
    let required = std::env::var(REQUIRE).unwrap_or_default();
    assert!(!names(&required, name), "{name} is required by {REQUIRE}, but missing: {reason}");
    tell("skipped", name, reason);
    false
}

/// Says what becomes of a test, past the capture of the test runner's output.
pub(crate) fn tell(what: &str, name: &str, reason: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{what}: {name}: {reason}");
}

/// Whether the comma list holds `name`; dashes and underscores are the same.
fn names(list: &str, name: &str) -> bool {
    let plain = |text: &str| text.trim().replace('_', "-");
    list.split(',').any(|one| plain(one) == plain(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_its_members_and_no_others() {
        assert!(names("docker, linux-ns", "linux_ns"));
        assert!(!names("docker,linux-ns", "linux"));
        assert!(!names("", "docker"));
    }

    #[test]
    fn what_is_ready_goes_on() {
        assert!(require("anything", &Availability::Ready));
    }
}
