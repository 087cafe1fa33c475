//! Landlock: what of the files that are there a command may use, which ports, and whom it reaches. A wall
//! behind the mounts and the network namespace.

use poolyard_rt::sys::{self, Errno};

use crate::decode::{Plan, Rule, Rules};
use crate::failure::{At, Result};
use crate::protocol::Stage;

/// What can be allowed of a single file: to execute, write, read and truncate it.
const OF_A_FILE: u64 = 0b100_0000_0000_0111;

/// Puts this process under the rules of the plan, if it has any. Paths are those of the lease, where no
/// command has run yet.
pub fn restrict(plan: &Plan<'_>) -> Result<()> {
    if plan.landlock.is_empty() {
        return Ok(());
    }
    let handled = &plan.landlock;
    let rules = sys::landlock_rules(handled.files, handled.ports, handled.scope).at(Stage::Landlock)?;
    let restricted = allow_all(rules, plan.landlock.clone())
        .and_then(|()| sys::landlock_restrict_self(rules).at(Stage::Landlock));
    sys::close(rules);
    restricted
}

fn allow_all(rules: i32, mut list: Rules<'_>) -> Result<()> {
    let mut number = 0;
    while let Some(rule) = list.next_rule().at(Stage::Landlock)? {
        number += 1;
        allow(rules, &rule).at_index(Stage::Landlock, number)?;
    }
    Ok(())
}

fn allow(rules: i32, rule: &Rule<'_>) -> sys::Result<()> {
    const PATH_CLOEXEC: u32 = 0o12_000_000;
    match *rule {
        Rule::Port { access, port } => sys::landlock_allow_port(rules, port, access),
        Rule::Path { access, path } => {
            let at = sys::openat(sys::AT_FDCWD, path, PATH_CLOEXEC, 0)?;
            let allowed = match sys::landlock_allow_path(rules, at, access) {
                // It is no directory, so what concerns only directories is too much.
                Err(Errno::INVAL) => sys::landlock_allow_path(rules, at, access & OF_A_FILE),
                other => other,
            };
            sys::close(at);
            allowed
        }
    }
}
