//! [`Availability`]: whether this machine has what a suite needs.

use std::io::Write;

/// The environment variable that names what may not be skipped, separated by commas.
const REQUIRE: &str = "POOLYARD_REQUIRE";

/// Whether a test's needs are met on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// They are.
    Ready,
    /// They are not; the text says what is missing and what a person can do about it.
    Missing(String),
}

/// Says whether the test may go on. If not, prints one line with the reason.
pub(crate) fn require(name: &str, availability: &Availability) -> bool {
    let Availability::Missing(reason) = availability else { return true };
    let required = std::env::var(REQUIRE).unwrap_or_default();
    assert!(!names(&required, name), "{name} is required by {REQUIRE}, but missing: {reason}");
    tell_skipped(name, reason);
    false
}

/// Prints that something is skipped, past the capture of the test runner's output.
pub(crate) fn tell_skipped(name: &str, reason: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
}

/// Whether the comma list holds `name`; dashes and underscores are the same.
fn names(list: &str, name: &str) -> bool {
    let plain = |text: &str| text.trim().replace('_', "-");
    list.split(',').any(|one| plain(one) == plain(name))
}
