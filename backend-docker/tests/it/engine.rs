//! An engine for the tests: the one that `DOCKER_HOST` names, or a private one that this process
//! starts (as root, by `engine.sh`) and ends at its exit. `POOLYARD_ENGINE=podman` starts Podman.
//!
//! A test reaches it through its [`Scene`] only, and at the scene's end nothing may be there that was not
//! there at its beginning.

#![allow(dead_code)] // Each test program uses its part.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use poolyard_core::Pool;
use poolyard_docker::{ContainerSpec, DockerManager};

use crate::census::{self, Items};

pub(crate) const IMAGE: &str = "poolyard-test:1";

/// How long the engine may take to be rid of what a test had.
const PATIENCE: Duration = Duration::from_secs(30);

/// Set for processes that a test starts to be killed: their end is looked at from outside.
pub(crate) const VICTIM: &str = "POOLYARD_TEST_VICTIM";

/// One test with the engine. One at a time, so that what is there afterwards is known to be the test's.
/// Keep it before everything else: what is declared later is dropped earlier.
///
/// Dropping the last handle takes a census of containers, networks, volumes, the engine's processes for
/// them, and this process's directories and connections. What has been added fails the test.
#[must_use]
#[derive(Clone)]
pub(crate) struct Scene(Arc<Watched>);

struct Watched {
    host: &'static str,
    /// `None` for a victim.
    before: Option<Items>,
    patience: Duration,
    _turn: Turn,
}

thread_local! {
    static CURRENT: RefCell<Weak<Watched>> = const { RefCell::new(Weak::new()) };
}

impl Scene {
    pub(crate) fn host(&self) -> &'static str {
        self.0.host
    }

    pub(crate) fn manager(&self) -> DockerManager {
        DockerManager::builder().host(self.host()).build().unwrap()
    }
}

/// The engine for this test, or `None` with the reason printed. What a test calls gets the same scene.
pub(crate) fn scene() -> Option<Scene> {
    scene_with(PATIENCE)
}

pub(crate) fn scene_with(patience: Duration) -> Option<Scene> {
    if let Some(current) = CURRENT.with_borrow(Weak::upgrade) {
        return Some(Scene(current));
    }
    let host = host()?;
    let turn = Turn::wait();
    let before = std::env::var_os(VICTIM).is_none().then(|| settled(host));
    let watched = Arc::new(Watched { host, before, patience, _turn: turn });
    CURRENT.set(Arc::downgrade(&watched));
    Some(Scene(watched))
}

/// What there is now, for a census of somebody else's.
pub(crate) fn held() -> Vec<String> {
    let dir = SHARED_DIR.get().map(PathBuf::as_path);
    find_once().as_ref().map_or(Vec::new(), |host| census::take(host, dir).into_iter().collect())
}

/// What is there once it does not change any more: the test before may have been cut short by a failure.
fn settled(host: &str) -> Items {
    let dir = SHARED_DIR.get().map(PathBuf::as_path);
    let mut last = census::take(host, dir);
    loop {
        std::thread::sleep(Duration::from_millis(5));
        let now = census::take(host, dir);
        if now == last {
            return now;
        }
        last = now;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Some(before) = self.before.take().filter(|_| !std::thread::panicking()) else { return };
        let dir = SHARED_DIR.get().map(PathBuf::as_path);
        let left = leftovers(self.host, dir, &before, self.patience);
        assert!(left.is_empty(), "the test left this behind:\n{}", left.join("\n"));
    }
}

/// What was not there before and does not go away.
fn leftovers(host: &str, dir: Option<&Path>, before: &Items, patience: Duration) -> Vec<String> {
    let deadline = Instant::now() + patience;
    loop {
        let left: Vec<String> = census::take(host, dir).difference(before).cloned().collect();
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The right to be the only test with an engine.
struct Turn;

static TAKEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

impl Turn {
    fn wait() -> Turn {
        let (taken, free) = &TAKEN;
        let taken = taken.lock().unwrap();
        *free.wait_while(taken, |taken| *taken).unwrap() = true;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.0.lock().unwrap() = false;
        TAKEN.1.notify_one();
    }
}

/// An engine of one test, which can be stopped, killed and frozen. At its end it must be as empty as it was
/// at its beginning, if it still answers.
pub(crate) struct Private {
    pub(crate) dir: PathBuf,
    env: Vec<(&'static str, &'static str)>,
    before: Items,
    _scene: Scene,
}

impl Private {
    /// Starts one more engine, in a network namespace of its own; or `None` with the reason printed.
    pub(crate) fn start(name: &str, env: &[(&'static str, &'static str)]) -> Option<Private> {
        let scene = scene()?;
        if SHARED_DIR.get().is_none() {
            assert!(!required(kind()), "{} needs to start an engine; unset DOCKER_HOST", test_name());
            return skip("it stops its engine, which it may not do to yours");
        }
        let dir = std::env::temp_dir().join(format!("poolyard-engine-{}-{name}", std::process::id()));
        let env = [env, &[("NETNS", "1")]].concat();
        let mut engine = Private { dir, env, before: Items::new(), _scene: scene };
        engine.script("up");
        engine.before = census::take(&engine.host(), Some(&engine.dir));
        Some(engine)
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.display())
    }

    pub(crate) fn manager(&self) -> DockerManager {
        DockerManager::builder().host(self.host()).build().unwrap()
    }

    /// `up`, `stop`, `kill` or `down`.
    pub(crate) fn script(&self, action: &str) {
        script(action, &self.dir, &self.env).unwrap();
    }

    pub(crate) fn pid(&self) -> i32 {
        let file = self.dir.join(format!("{}.pid", kind()));
        std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let left = match std::thread::panicking() {
            true => Vec::new(),
            false => leftovers(&self.host(), Some(&self.dir), &self.before, PATIENCE),
        };
        if let Err(error) = script("down", &self.dir, &self.env) {
            eprintln!("the engine in {} was not ended: {error}", self.dir.display());
        }
        assert!(left.is_empty(), "the test left this behind in its own engine:\n{}", left.join("\n"));
    }
}

fn script(action: &str, dir: &std::path::Path, env: &[(&str, &str)]) -> Result<(), String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg(action).arg(dir).envs(env.iter().copied());
    command.env("ENGINE", kind()).env("OWNER", std::process::id().to_string());
    // Not a pipe: the daemon would hold it open.
    let status = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("{script} {action}: {other:?}")),
    }
}

static SHARED: OnceLock<Result<String, String>> = OnceLock::new();
static SHARED_DIR: OnceLock<PathBuf> = OnceLock::new();

extern "C" fn end_shared() {
    let Some(dir) = SHARED_DIR.get() else { return };
    let _ = script("down", dir, &[]);
}

/// The engine that tests start: `docker` or `podman`.
pub(crate) fn kind() -> &'static str {
    static KIND: OnceLock<String> = OnceLock::new();
    KIND.get_or_init(|| std::env::var("POOLYARD_ENGINE").unwrap_or_else(|_| "docker".into()))
}

/// What a test of Docker's own ways asks first.
pub(crate) fn only_docker(why: &str) -> Option<()> {
    if is_podman() { skip(why) } else { Some(()) }
}

pub(crate) fn is_podman() -> bool {
    static PODMAN: OnceLock<bool> = OnceLock::new();
    *PODMAN.get_or_init(|| host().is_some_and(|host| docker(host, &["version"]).contains("Podman")))
}

fn test_name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

fn skip<T>(reason: &str) -> Option<T> {
    eprintln!("skipped: {}: {reason}", test_name());
    None
}

pub(crate) fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    #[allow(unsafe_code)]
    let uid = unsafe { libc::geteuid() };
    uid == 0
}

fn find() -> Result<String, String> {
    if let Ok(host) = std::env::var("DOCKER_HOST") {
        return Ok(host);
    }
    if !is_root() {
        return Err("DOCKER_HOST is not set, and only root can start an engine".into());
    }
    let program = if kind() == "podman" { "podman" } else { "dockerd" };
    let installed = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !installed && !required(kind()) {
        return Err(format!("DOCKER_HOST is not set, and {program} is not installed"));
    }
    one_at_a_time().map_err(|e| format!("no lock for an engine: {e}"))?;
    let dir = std::env::temp_dir().join(format!("poolyard-engine-{}", std::process::id()));
    // SAFETY: the function only starts a process and waits for it.
    #[allow(unsafe_code)]
    unsafe {
        libc::atexit(end_shared);
    }
    let dir = SHARED_DIR.get_or_init(|| dir);
    script("up", dir, &[])?;
    Ok(format!("unix://{}/docker.sock", dir.display()))
}

/// Engines of two test programs at once would take each other's bridge away. The lock ends with the
/// process.
fn one_at_a_time() -> std::io::Result<()> {
    use std::os::fd::IntoRawFd;
    let path = std::env::temp_dir().join(format!("poolyard-engine-{}.lock", kind()));
    let file = std::fs::File::create(path)?.into_raw_fd();
    // SAFETY: a file descriptor that nobody closes.
    #[allow(unsafe_code)]
    match unsafe { libc::flock(file, libc::LOCK_EX) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

pub(crate) fn required(what: &str) -> bool {
    let list = std::env::var("POOLYARD_REQUIRE").unwrap_or_default();
    list.split(',').any(|word| word.trim() == what)
}

/// The engine's address, or why there is none.
pub(crate) fn find_once() -> &'static Result<String, String> {
    SHARED.get_or_init(find)
}

/// The engine's address, or `None` with the reason printed.
fn host() -> Option<&'static str> {
    match find_once() {
        Ok(host) => Some(host),
        Err(reason) => {
            assert!(!required(kind()), "{} needs an engine: {reason}", test_name());
            skip(reason)
        }
    }
}

/// For a pool in a static, which is in no test's hands.
pub(crate) fn manager_for_a_static() -> DockerManager {
    DockerManager::builder().host(host().expect("a scene was there before")).build().unwrap()
}

pub(crate) type ContainerPool = Pool<DockerManager>;

pub(crate) fn pool_of(manager: &DockerManager, max: usize) -> ContainerPool {
    Pool::builder(manager.clone())
        .max_total(max)
        .wait_timeout(Duration::from_secs(60))
        .create_timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

pub(crate) fn sandbox() -> ContainerSpec {
    ContainerSpec::sandbox(IMAGE)
}

/// Asks the engine, as anybody could.
pub(crate) fn docker(host: &str, arguments: &[&str]) -> String {
    let output = Command::new("docker").arg("-H").arg(host).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text.trim().to_owned()
}

/// Ends a container from outside (`kill`, `stop`, `rm -f`). Podman may have removed it before it
/// answers, and then says that there is none.
pub(crate) fn end(host: &str, how: &[&str], container: &str) {
    let arguments = [how, &[container]].concat();
    let output = Command::new("docker").arg("-H").arg(host).args(&arguments).output().unwrap();
    assert!(output.status.success() || !exists(host, container), "docker {arguments:?}: {output:?}");
}

/// Whether the engine still has a container.
pub(crate) fn exists(host: &str, container: &str) -> bool {
    docker(host, &["ps", "-aq", "--no-trunc"]).lines().any(|id| id == container)
}

/// Waits until something is true, or says what is not.
pub(crate) async fn until(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..600 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {what}");
}
