//! The laws of the test-kit, for workers of every origin.

#![allow(unsafe_code, reason = "diverts before the test harness's main")]

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::rc::Rc;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use poolyard_core::{Context, Manager, Meta, Reason, Reuse};

use poolyard_process::worker::Worker as Kit;
use poolyard_process::{Deadline, Error, OnReturn, ProcessManager, Spawner, Worker, WorkerKey, WorkerSpec};
use poolyard_testkit::census::Scope;
use poolyard_testkit::{Harness, conformance};

const ROLE: &str = "CONFORMANCE_WORKER";

#[used]
#[unsafe(link_section = ".init_array")]
static DIVERT: extern "C" fn() = {
    extern "C" fn divert() {
        if std::env::var_os(ROLE).is_some() {
            std::process::exit(serve().is_err().into());
        }
        poolyard_process::init(|zygote| {
            zygote.entry("worker", serve);
        });
    }
    divert
};

/// A worker in which a user can leave something: a value, a child process, a file.
fn serve() -> io::Result<()> {
    let marks: Rc<RefCell<Vec<u8>>> = Rc::default();
    let children: Rc<RefCell<Vec<Child>>> = Rc::default();
    let (cleared, reaped) = (marks.clone(), children.clone());
    let kit = Kit::connect()?.on_reset(move || {
        cleared.borrow_mut().clear();
        reaped.borrow_mut().drain(..).for_each(|mut child| drop(child.wait()));
    });
    kit.serve(move |call| {
        let mark = call.get(1).copied().unwrap_or(0);
        match call.first() {
            Some(b'd') if mark.is_multiple_of(2) => marks.borrow_mut().push(mark),
            Some(b'd') => {
                let child = Command::new("sleep").arg("1000").current_dir("/").spawn();
                children.borrow_mut().push(child.map_err(|e| e.to_string())?);
            }
            Some(b'?') if mark.is_multiple_of(2) => return Ok(vec![marks.borrow().contains(&mark).into()]),
            Some(b'?') => {
                let mut children = children.borrow_mut();
                let alive = children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None)));
                return Ok(vec![alive.into()]);
            }
            _ => return Ok(std::env::var("KEY").unwrap_or_default().into()),
        }
        Ok(Vec::new())
    })
}

/// Where workers come from.
trait Origin: Send + Sync + 'static {
    fn spec() -> WorkerSpec;
}

macro_rules! world {
    ($name:ident, $module:ident, $spec:expr) => {
        struct $name;

        impl Origin for $name {
            fn spec() -> WorkerSpec {
                $spec
            }
        }

        conformance!($module, World<$name>);
    };
}

fn command() -> WorkerSpec {
    WorkerSpec::command(std::env::current_exe().expect("an exe")).env(ROLE, "yes")
}

world!(Direct, direct_command, command().spawner(Spawner::Direct));
world!(Through, command_through_the_zygote, command().spawner(Spawner::Zygote));
world!(Entry, entry, WorkerSpec::entry("worker"));

/// Workers of a world work in its directory, by which they are counted.
struct World<O> {
    dir: PathBuf,
    managers: Mutex<Vec<Weak<()>>>,
    origin: std::marker::PhantomData<O>,
}

/// A manager whose end can be seen: it is dropped at once, but its thread takes a moment to end.
struct Tracked {
    manager: ProcessManager,
    _alive: Arc<()>,
}

impl Manager for Tracked {
    type Key = WorkerKey;
    type Resource = Worker;
    type Error = Error;

    async fn create(&self, key: &WorkerKey, cx: &Context) -> Result<Worker, Error> {
        self.manager.create(key, cx).await
    }

    async fn recycle(&self, key: &WorkerKey, worker: &mut Worker, cx: &Context) -> Result<(), Error> {
        self.manager.recycle(key, worker, cx).await
    }

    async fn health_check(&self, key: &WorkerKey, worker: &mut Worker, cx: &Context) -> Result<(), Error> {
        self.manager.health_check(key, worker, cx).await
    }

    async fn destroy(&self, key: &WorkerKey, worker: &mut Worker, reason: Reason, cx: &Context) {
        self.manager.destroy(key, worker, reason, cx).await;
    }

    fn destroy_now(&self, key: &WorkerKey, worker: Worker, reason: Reason) {
        self.manager.destroy_now(key, worker, reason);
    }

    fn reuse(&self, key: &WorkerKey, worker: &mut Worker, meta: &Meta) -> Reuse {
        self.manager.reuse(key, worker, meta)
    }
}

/// The supervising threads of this process.
fn supervisors() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("a list").flatten();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "poolyard-proces").count()
}

/// The name of a worker that a zygote has forked before anybody ordered it.
const SPARE: &str = "poolyard-spare";

/// The spare workers of this process's zygotes.
fn spares() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("a list").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_ours = |id: &String| {
        let zygote = parent(id).unwrap_or_default();
        name(id).as_deref() == Some(SPARE) && parent(&zygote) == Some(std::process::id().to_string())
    };
    ids.filter(is_ours).collect()
}

fn name(id: &str) -> Option<String> {
    Some(std::fs::read_to_string(format!("/proc/{id}/comm")).ok()?.trim_end().to_owned())
}

fn parent(id: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:\t").map(str::to_owned))
}

impl<O> World<O> {
    fn processes(dir: &Path) -> usize {
        let entries = std::fs::read_dir("/proc").expect("a list").flatten();
        let ids = entries.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
        ids.filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir)).count()
    }

    async fn ask(worker: &mut Worker, question: &[u8]) -> Option<Vec<u8>> {
        worker.call(question, Deadline::after(Duration::from_secs(5))).await.ok()
    }
}

impl<O> Drop for World<O> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl<O: Origin> Harness for World<O> {
    type Manager = Tracked;

    const CASES: u32 = 6;

    async fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("poolyard-world-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().canonicalize().expect("a directory").join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        Self { dir, managers: Mutex::default(), origin: std::marker::PhantomData }
    }

    fn manager(&self) -> Tracked {
        let alive = Arc::new(());
        self.managers.lock().expect("no poison").push(Arc::downgrade(&alive));
        Tracked { manager: ProcessManager::new().expect("a supervisor"), _alive: alive }
    }

    fn keys(&self) -> Vec<WorkerKey> {
        let key = |name| O::spec().cwd(&self.dir).env("KEY", name).on_return(OnReturn::Reset).ping().key();
        vec![key("one"), key("two")]
    }

    async fn works(&self, key: &WorkerKey, worker: &mut Worker) -> bool {
        let Some(answer) = Self::ask(worker, b"k").await else { return false };
        self.keys().iter().zip(["one", "two"]).any(|(known, name)| known == key && answer == name.as_bytes())
    }

    async fn dirty(&self, worker: &mut Worker, mark: u32) {
        Self::ask(worker, &[b'd', mark as u8]).await.expect("a mark");
    }

    async fn is_dirty(&self, worker: &mut Worker, mark: u32) -> bool {
        Self::ask(worker, &[b'?', mark as u8]).await.is_some_and(|answer| answer == [1])
    }

    async fn kill(&self, worker: &mut Worker) {
        signal("-KILL", worker.pid());
    }

    async fn stop(&self, worker: &mut Worker) {
        signal("-STOP", worker.pid());
    }

    async fn live(&self) -> usize {
        let managers = {
            let managers = self.managers.lock().expect("no poison");
            managers.iter().filter(|manager| manager.strong_count() > 0).count()
        };
        // Whatever is there, a process that is about to end included: the law itself looks again.
        Self::processes(&self.dir) + supervisors().saturating_sub(managers)
    }

    /// A manager of processes mounts nothing; what others mount on this machine meanwhile is not its trace.
    fn census(&self) -> Option<Scope> {
        let scope = Scope::new().mounts_under(&self.dir);
        // A zygote keeps a spare worker, never two.
        Some(
            scope.without(SPARE).with("spare workers", || spares().into_iter().skip(supervisors()).collect()),
        )
    }
}

fn signal(name: &str, pid: i32) {
    let status = Command::new("kill").arg(name).arg(pid.to_string()).status();
    assert!(status.expect("kill runs").success());
}
