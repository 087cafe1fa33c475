//! [`Reset`]: how a container becomes clean between two users, and the proof that it is.

use std::collections::BTreeSet;

use crate::agent::Link;
use crate::container::Container;
use crate::error::{Error, ErrorKind, Stage};
use crate::wait::Check;

/// How a returned container is made clean for its next user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reset {
    /// It is used once. The pool makes another when somebody asks.
    Never,
    /// It is replaced by a new one, made before the old one is removed. The safest, and the slowest.
    Recreate,
    /// The resident agent ends all programs but the service, empties everything in memory and the
    /// [wiped](crate::ContainerSpec::wipe) directories, and what remains is compared with the
    /// container's state when it was new: processes, entries of writable mounts, mounts, listening
    /// sockets, System V IPC, routes, host name. Any difference, and the container is thrown away.
    ///
    /// Not covered: the kernel's key rings, peak values of counters, and whatever is outside the
    /// container.
    Wipe,
    /// This is called, after all programs but the service were ended: it flushes a database, say.
    /// What it leaves behind nobody checks but it.
    Hook(Check),
    /// The engine restarts it and it becomes ready again; all its files in memory are new. Slower
    /// than [`Recreate`](Reset::Recreate), and only right where the root is read-only. Ports that
    /// the engine chooses change.
    ///
    /// Podman at times removes the container instead; a new one takes its place.
    Restart,
}

/// Directories in memory that every container has.
const SHARED_MEMORY: [&str; 2] = ["/dev/shm", "/dev/mqueue"];

/// What a container is compared with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Baseline {
    survey: Survey,
    /// Changes of the root file system, by the engine.
    changes: BTreeSet<(u8, String)>,
}

/// What the agent found.
#[derive(Clone, Debug, Default)]
struct Survey {
    /// Lines about everything but processes; see the agent's own description of them.
    lines: BTreeSet<String>,
    /// Process id, parent, name.
    processes: Vec<(i32, i32, String)>,
}

impl Survey {
    fn parse(text: &[u8]) -> Survey {
        let mut survey = Survey::default();
        for line in String::from_utf8_lossy(text).lines() {
            match line.strip_prefix("p ") {
                Some(process) => survey.processes.extend(Self::process(process)),
                None => drop(survey.lines.insert(line.to_owned())),
            }
        }
        survey
    }

    fn process(line: &str) -> Option<(i32, i32, String)> {
        let mut words = line.splitn(4, ' ');
        let mut number = || words.next()?.parse().ok();
        let (pid, parent) = (number()?, number()?);
        Some((pid, parent, words.nth(1).unwrap_or_default().to_owned()))
    }

    /// Paths of entries in writable mounts.
    fn paths(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(|l| l.starts_with("f ")).filter_map(|l| Some(&l[l.find(" /")? + 1..]))
    }

    async fn take(link: &Link) -> Result<Survey, Error> {
        Self::read(link.survey()?).await
    }

    async fn read(request: crate::agent::Request) -> Result<Survey, Error> {
        match request.collect().await? {
            (text, 0) => Ok(Survey::parse(&text)),
            (_, errno) => {
                Err(Error::new(Stage::Verify, ErrorKind::Dirty, "the container cannot be surveyed")
                    .with_source(std::io::Error::from_raw_os_error(errno)))
            }
        }
    }
}

impl Baseline {
    /// Describes a container that is new.
    pub(crate) async fn take(container: &Container) -> Result<Baseline, Error> {
        let mut baseline = Baseline::default();
        if let Some(link) = container.link() {
            baseline.survey = Survey::take(link).await?;
        }
        if needs_changes(container) {
            baseline.changes = changes(container).await?;
        }
        Ok(baseline)
    }
}

fn needs_changes(container: &Container) -> bool {
    let spec = container.spec();
    spec.reset == Reset::Wipe && (!spec.read_only || spec.diff_every > 0)
}

async fn changes(container: &Container) -> Result<BTreeSet<(u8, String)>, Error> {
    let all = container.engine().diff(container.id()).await?;
    let wiped = &container.spec().wipe;
    // A directory that was emptied, and those above it, count as modified.
    let above = |path: &str| wiped.iter().any(|w| w == path || w.starts_with(&format!("{path}/")));
    Ok(all.into_iter().filter(|c| c.kind != 0 || !above(&c.path)).map(|c| (c.kind, c.path)).collect())
}

/// Cleans by the agent and proves it.
pub(crate) async fn wipe(container: &Container, baseline: &Baseline, nth: u64) -> Result<(), Error> {
    let link = container.agent_link(Stage::Reset)?;
    let directories = wiped_directories(container);
    let keep: Vec<String> = baseline.survey.paths().map(str::to_owned).collect();
    // Both at once: the agent answers in order, and one round trip is half of the time.
    let reset = link.reset(&directories, &keep)?;
    let survey = link.survey()?;
    cleaned(reset.done().await?)?;
    let found = Survey::read(survey).await?;
    compare(container, &baseline.survey, &found, &directories)?;
    let spec = container.spec();
    let every = if spec.read_only { u64::from(spec.diff_every) } else { 1 };
    if every > 0 && nth.is_multiple_of(every) {
        compare_changes(&baseline.changes, &changes(container).await?)?;
    }
    Ok(())
}

/// Ends all programs but the service, and leaves the rest to the hook.
pub(crate) async fn hook(container: &Container, check: &Check) -> Result<(), Error> {
    if let Some(link) = container.link() {
        cleaned(link.reset(&[], &[])?.done().await?)?;
    }
    check.run(container).await
}

fn cleaned(errno: i32) -> Result<(), Error> {
    match errno {
        0 => Ok(()),
        errno => Err(Error::new(Stage::Reset, ErrorKind::Dirty, "programs or files could not be removed")
            .with_source(std::io::Error::from_raw_os_error(errno))),
    }
}

fn wiped_directories(container: &Container) -> Vec<String> {
    let spec = container.spec();
    let tmpfs = spec.tmpfs.iter().map(|t| t.path.clone());
    // A service may keep something of its own there.
    let shared = SHARED_MEMORY.into_iter().filter(|_| !spec.service).map(String::from);
    tmpfs.chain(spec.wipe.iter().cloned()).chain(shared).collect()
}

fn compare(container: &Container, new: &Survey, now: &Survey, wiped: &[String]) -> Result<(), Error> {
    let service = container.spec().service;
    if let Some(process) = stranger(new, now, service) {
        return Err(dirty(&format!("process {process:?} is left")));
    }
    // A service writes where it likes; what it must not touch are mounts, routes and names.
    let counts = |line: &&String| match line.as_bytes()[0] {
        b'm' | b'r' | b'h' => true,
        b'f' => {
            !service
                || wiped.iter().any(|w| line[line.find(" /").unwrap_or(0)..].starts_with(&format!(" {w}")))
        }
        _ => !service,
    };
    match new.lines.symmetric_difference(&now.lines).find(counts) {
        Some(line) => Err(dirty(&format!("this is not as it was: {line}"))),
        None => Ok(()),
    }
}

/// A process that belongs neither to the service nor to the beginning.
fn stranger(new: &Survey, now: &Survey, service: bool) -> Option<String> {
    let known = |pid: i32| new.processes.iter().any(|p| p.0 == pid);
    let descends = |mut pid: i32| {
        for _ in 0..now.processes.len() {
            if known(pid) {
                return true;
            }
            match now.processes.iter().find(|p| p.0 == pid) {
                Some(process) => pid = process.1,
                None => return false,
            }
        }
        false
    };
    now.processes.iter().find(|p| !(service && descends(p.0))).map(|p| p.2.clone())
}

fn compare_changes(new: &BTreeSet<(u8, String)>, now: &BTreeSet<(u8, String)>) -> Result<(), Error> {
    match new.symmetric_difference(now).next() {
        Some((_, path)) => Err(dirty(&format!("the root file system changed at {path}"))),
        None => Ok(()),
    }
}

fn dirty(what: &str) -> Error {
    Error::new(Stage::Verify, ErrorKind::Dirty, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(text: &str) -> Survey {
        Survey::parse(text.as_bytes())
    }

    #[test]
    fn a_sandbox_keeps_no_process() {
        let now = survey("p 12 1 44 (sleep)\nm x\n");
        assert_eq!(stranger(&Survey::default(), &now, false), Some("(sleep)".into()));
    }

    #[test]
    fn a_service_keeps_its_own_processes_and_no_others() {
        let new = survey("p 2 1 5 (runner)\np 3 2 6 (redis)\n");
        let grown = survey("p 2 1 5 (runner)\np 3 2 6 (redis)\np 9 3 7 (redis-bgsave)\n");
        assert_eq!(stranger(&new, &grown, true), None);
        let foreign = survey("p 2 1 5 (runner)\np 3 2 6 (redis)\np 9 1 7 (miner)\n");
        assert_eq!(stranger(&new, &foreign, true), Some("(miner)".into()));
    }

    #[test]
    fn paths_are_read_from_entries_with_spaces() {
        let found = survey("f 33188 0 0 5 1 2 3 /tmp/a b\nf 17407 0 0 /tmp\nm 1 /x /y\n");
        assert_eq!(found.paths().collect::<Vec<_>>(), ["/tmp", "/tmp/a b"]);
    }
}
