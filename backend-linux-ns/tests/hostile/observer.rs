//! An observer looks at more than 40 items of its surroundings, as the first user of a sandbox and after
//! each of the programs that leave something.

use poolyard_linux_ns::LinuxNs;

use crate::outside::Outside;
use crate::place::{attack, next_user, roomy, sandbox};

/// What every user before the observer does. It is the next one who must not notice.
const DIRT: [&[&str]; 9] = [
    &["leave-files"],
    &["leave-ipc"],
    &["leave-key", "{token}"],
    &["leave-survivors"],
    &["leave-attributes"],
    &["change-init"],
    &["mounts"],
    &["signal-all"],
    &["take-disk", "files", "500"],
];

pub(crate) async fn compare(ns: &LinuxNs, outside: &Outside) {
    let mut sandbox = sandbox(ns, outside, roomy()).await;
    let observe = async |sandbox: &_| -> Vec<String> {
        let text = attack(sandbox, outside, &["observe"]).await.stdout.text().into_owned();
        text.lines().map(String::from).collect()
    };
    let first = observe(&sandbox).await;
    assert!(first.len() > 80, "it sees only {first:#?}");
    // Where nothing is cleaned, the numbers of processes have moved on.
    assert_ne!(observe(&sandbox).await, first, "the observer sees nothing");
    let inherited =
        attack(&sandbox, outside, &["leave-attributes", "observe"]).await.stdout.text().into_owned();
    let changed = inherited.lines().zip(&first).filter(|(now, before)| now != before).count();
    assert!(changed > 8, "the observer sees only {changed} changed attributes");
    for dirt in DIRT {
        attack(&sandbox, outside, dirt).await;
        next_user(ns, &mut sandbox).await;
        let now = observe(&sandbox).await;
        for (before, now) in first.iter().zip(&now) {
            assert_eq!(before, now, "after {dirt:?}");
        }
        assert_eq!(first.len(), now.len(), "after {dirt:?}");
        next_user(ns, &mut sandbox).await;
    }
}

/// Whether a kernel keeps whoever is born into a killed cgroup by clone3 from living is found out, not assumed:
/// sandboxes are killed by their pid namespace, and nobody writes to `cgroup.kill` of a cgroup of theirs.
#[test]
fn a_killed_cgroup_is_entered_by_writing_whatever_clone_does() {
    use poolyard_testkit::availability::{Availability, require};
    let places = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let place =
        places.into_iter().find(|place| std::path::Path::new(place).join("cgroup.controllers").exists());
    let root = rustix::process::geteuid().is_root();
    let there = Availability::when(root && place.is_some(), "needs root and a mounted cgroup version 2");
    let (true, Some(place)) = (require("cgroup2", &there), place) else { return };
    let Some(programs) = crate::programs::Programs::build() else { return };
    let cgroup = format!("{place}/poolyard-killed-{}", std::process::id());
    let output =
        std::process::Command::new(programs.program()).args(["killed-cgroup", &cgroup]).output().unwrap();
    let seen = crate::place::Seen::parse(&String::from_utf8_lossy(&output.stdout));
    println!("{}", seen.text);
    for step in ["born_before", "kill", "moved_after"] {
        assert!(seen.successes().contains(&step), "{step}: {}", seen.text);
    }
}
