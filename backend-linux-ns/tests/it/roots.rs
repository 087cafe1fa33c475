//! Roots that can be written to, and clocks that begin anew: what is a lease's own.

use std::path::PathBuf;
use std::time::Instant;

use poolyard_core::Manager;
use poolyard_exec::{Command, Limits};
use poolyard_linux_ns::{Landlock, LinuxNs, Sandbox, SandboxSpec};

use crate::support::{backend, context, printed, run, sandbox, sandbox_of, shell};

/// A directory of the host that everybody may change, with a file in it. It goes with this value.
struct Base(PathBuf);

impl Base {
    fn new(name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = PathBuf::from(format!("/var/tmp/poolyard-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("open")).unwrap();
        std::fs::write(dir.join("open/file"), "old").unwrap();
        for (path, mode) in [("", 0o755), ("open", 0o777), ("open/file", 0o666)] {
            std::fs::set_permissions(dir.join(path), PermissionsExt::from_mode(mode)).unwrap();
        }
        Self(dir)
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn recycle(ns: &LinuxNs, sandbox: &mut Sandbox) {
    let spec = sandbox.spec().clone();
    ns.recycle(&spec, sandbox, &context()).await.unwrap();
}

/// Whether commands can change files below the tops of base directories here, or a skip with the reason.
async fn copies_up(test: &str, sandbox: &Sandbox, file: &str) -> bool {
    let outcome = run(sandbox, &Command::new("/bin/sh").args(["-c", &format!(": >> {file}")])).await;
    if outcome.stderr.text().contains("too large") {
        let reason = "the file system of /var/tmp has no idmapped mounts";
        crate::support::skip(test, "idmapped-mounts", reason);
        return false;
    }
    assert!(outcome.success(), "{outcome:?}");
    true
}

const LOOK: &str = "ls / ; ls -la --time-style=+ /etc /usr /data /data/open; cat /etc/passwd /data/open/file";
const CHANGE: &str = "set -e; echo new > /data/open/file; rm /etc/passwd; echo mine > /etc/made; mkdir /srv /usr/made
    echo made > /usr/made/file; touch /data/more; mkdir /data/open/dir; cat /data/open/file /srv/../usr/made/file";

#[tokio::test]
async fn what_one_lease_writes_to_its_root_the_next_one_and_the_host_do_not_see() {
    let Some(ns) = backend("writable root") else { return };
    let base = Base::new("layers");
    let spec = SandboxSpec::builder().tree("data", &base.0).writable_root().build();
    let (mut sandbox, neighbour) = (sandbox_of(&ns, &spec).await, sandbox_of(&ns, &spec).await);
    let first = printed(&sandbox, LOOK).await;
    if !copies_up("writable root", &sandbox, "/data/open/file").await {
        return;
    }
    recycle(&ns, &mut sandbox).await;
    for _ in 0..2 {
        assert_eq!(printed(&sandbox, CHANGE).await, "new\nmade");
        assert_ne!(printed(&sandbox, LOOK).await, first, "it sees its own changes");
        assert_eq!(printed(&neighbour, LOOK).await, first, "its neighbour does not");
        recycle(&ns, &mut sandbox).await;
        assert_eq!(printed(&sandbox, LOOK).await, first, "nor does the next user");
    }
    assert_eq!(std::fs::read_to_string(base.0.join("open/file")).unwrap(), "old");
    assert!(!std::path::Path::new("/usr/made").exists() && !base.0.join("more").exists());
}

#[tokio::test]
async fn without_it_the_root_is_read_only() {
    let Some(ns) = backend("read-only root") else { return };
    let base = Base::new("read-only");
    let sandbox = sandbox_of(&ns, &SandboxSpec::builder().tree("data", &base.0).build()).await;
    for attempt in [": > /data/open/file", "mkdir /srv", ": > /etc/made", "mkdir /usr/made"] {
        let outcome = shell(&sandbox, attempt).await;
        assert!(outcome.stderr.text().contains("Read-only file system"), "{attempt}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_writable_root_is_under_the_limits_of_the_disk() {
    let Some(ns) = backend("bounded root") else { return };
    let base = Base::new("bounded");
    let limits = Limits::new().disk_bytes(1 << 20).disk_inodes(20);
    let spec = SandboxSpec::builder().tree("data", &base.0).writable_root().limits(limits).build();
    let mut sandbox = sandbox_of(&ns, &spec).await;
    let fill = "head -c 600K /dev/zero > /etc/a && head -c 600K /dev/zero > /data/b";
    let outcome = shell(&sandbox, fill).await;
    assert!(outcome.stderr.text().contains("No space left"), "{outcome:?}");
    recycle(&ns, &mut sandbox).await;
    let files = "i=0; while true > /etc/f$i; do i=$((i+1)); done 2>/dev/null; ls /etc | grep -c ^f";
    let made: u32 = printed(&sandbox, files).await.parse().unwrap();
    assert!((20..30).contains(&made), "{made} files were made");
}

#[tokio::test]
async fn a_whole_image_can_be_written_to_in_layers() {
    let Some(ns) = backend("writable image") else { return };
    let busybox =
        ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| std::path::Path::new(path).exists());
    let Some(busybox) = busybox else {
        return crate::support::skip("writable image", "busybox", "there is no busybox");
    };
    let base = Base::new("image");
    std::fs::create_dir(base.0.join("bin")).unwrap();
    std::fs::copy(busybox, base.0.join("bin/sh")).unwrap();
    let spec = SandboxSpec::builder().root(&base.0).writable_root().build();
    let mut sandbox = sandbox_of(&ns, &spec).await;
    if !copies_up("writable image", &sandbox, "/open/file").await {
        return;
    }
    recycle(&ns, &mut sandbox).await;
    let script = Command::new("/bin/sh").args([
        "-c",
        "read x < /open/file; echo $x; echo new > /open/file; echo new > /made; exec 2>&1; echo /*",
    ]);
    for _ in 0..2 {
        let text = run(&sandbox, &script).await.stdout.text().into_owned();
        assert_eq!(text, "old\n/bin /box /dev /made /open /proc /tmp\n");
        recycle(&ns, &mut sandbox).await;
    }
    assert_eq!(std::fs::read_to_string(base.0.join("open/file")).unwrap(), "old");
}

#[tokio::test]
async fn rules_of_landlock_hold_in_a_writable_root() {
    let Some(ns) = backend("landlock in a writable root") else { return };
    let rules = Landlock::new().read("/usr").read("/bin").read("/lib").read("/lib64").write("/etc");
    let spec = SandboxSpec::builder().writable_root().landlock(rules).build();
    let sandbox = match ns.sandbox(&spec).await {
        Ok(sandbox) => sandbox,
        Err(error) => {
            return crate::support::skip("landlock in a writable root", "landlock", &error.to_string());
        }
    };
    assert_eq!(printed(&sandbox, "echo made > /etc/made; read x < /etc/made; echo $x").await, "made");
    assert!(!shell(&sandbox, "mkdir /usr/made").await.success());
}

#[tokio::test]
async fn the_clocks_of_a_lease_begin_with_it() {
    let Some(ns) = backend("clocks") else { return };
    let uptime = async |sandbox: &Sandbox| -> f64 {
        let text = printed(sandbox, "read up rest < /proc/uptime; echo $up").await;
        text.parse().unwrap()
    };
    let namespace = "readlink /proc/self/ns/time";
    let started = Instant::now();
    let mut sandbox = sandbox(&ns).await;
    assert!(uptime(&sandbox).await <= started.elapsed().as_secs_f64() + 0.01);
    let host = std::fs::read_link("/proc/self/ns/time").unwrap();
    assert_ne!(printed(&sandbox, namespace).await, host.to_str().unwrap());
    // A second lease knows nothing of the time before it, of which there is some.
    while uptime(&sandbox).await < 0.05 {}
    let ended = Instant::now();
    recycle(&ns, &mut sandbox).await;
    assert!(uptime(&sandbox).await <= ended.elapsed().as_secs_f64() + 0.01);
    // The time of day is everybody's.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let inside: u64 = printed(&sandbox, ": > now; stat -c %Y now").await.parse().unwrap();
    assert!(inside.abs_diff(now) < 60);
}
