//! Hosts of other kinds than a plain program of Rust.

use poolyard_linux_ns::{LinuxNs, Mode};
use poolyard_testkit::availability::{Availability, require};

use crate::support::{
    backend, backend_with_cgroups, cgroups_of, identity_of, own_cgroups, printed, runtime, sandbox,
};

#[tokio::test]
async fn who_is_not_root_gets_the_strongest_mode_that_works() {
    let Some(ns) = backend("strongest mode") else { return };
    if ns.mode() == Mode::Root {
        return;
    }
    let missing = Mode::Subordinate.missing();
    let ids = Availability::when(missing.is_none(), missing.unwrap_or_default());
    let expected = if require("subordinate-ids", &ids) { Mode::Subordinate } else { Mode::SingleUid };
    assert_eq!(ns.mode(), expected);
    let map = printed(&sandbox(&ns).await, "cat /proc/self/uid_map").await;
    assert_eq!(map.lines().count() > 1, expected == Mode::Subordinate, "{map}");
}

#[test]
fn a_host_whose_program_was_deleted_makes_sandboxes() {
    const CHILD: &str = "POOLYARD_DELETED";
    const TEST: &str = "hosts::a_host_whose_program_was_deleted_makes_sandboxes";
    if std::env::var_os(CHILD).is_some() {
        std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
        return runtime().block_on(async {
            let Some(ns) = backend("deleted program") else { return };
            assert_eq!(printed(&sandbox(&ns).await, "echo alive").await, "alive");
        });
    }
    let copy = std::env::temp_dir().join(format!("poolyard-deleted-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let status = std::process::Command::new(&copy).args(["--exact", TEST]).env(CHILD, "1").status().unwrap();
    assert!(status.success());
    assert!(!copy.exists());
}

#[test]
fn a_host_that_ends_right_after_its_last_sandbox_leaves_no_cgroup() {
    const CHILD: &str = "POOLYARD_ENDING";
    const TEST: &str = "hosts::a_host_that_ends_right_after_its_last_sandbox_leaves_no_cgroup";
    if std::env::var_os(CHILD).is_some() {
        runtime().block_on(async {
            let ns = LinuxNs::new().unwrap();
            let sandboxes = [sandbox(&ns).await, sandbox(&ns).await];
            println!("host {} {}", identity_of(std::process::id()), own_cgroups().len());
            drop(ns);
            drop(sandboxes);
        });
        std::process::exit(0);
    }
    if runtime().block_on(async { backend_with_cgroups("ending host").is_none() }) {
        return;
    }
    let mut host = std::process::Command::new(std::env::current_exe().unwrap());
    let output = host.args(["--exact", TEST, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.lines().find(|line| line.contains("host ")).unwrap().split(' ').rev();
    let (count, identity) = (words.next().unwrap(), words.next().unwrap());
    assert_ne!(count, "0");
    assert_eq!(cgroups_of(identity), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_shared_library_makes_sandboxes_in_a_host_of_another_language() {
    if runtime().block_on(async { backend("shared library").is_none() }) {
        return;
    }
    // Beside this program's directory, where cargo puts examples.
    let here = std::env::current_exe().unwrap();
    let library = here.parent().unwrap().parent().unwrap().join("examples/libembedded.so");
    let built = Availability::when(library.exists(), "the example `embedded` is not built; run all targets");
    let python = std::process::Command::new("python3").arg("--version").output().is_ok();
    let python = Availability::when(python, "there is no python3; install it");
    if !require("python3", &python) || !require("embedded", &built) {
        return;
    }
    let script = format!("import ctypes; print(ctypes.CDLL('{}').poolyard_echo())", library.display());
    let output = std::process::Command::new("python3").args(["-c", &script]).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(text, "6\n", "{errors}");
}
