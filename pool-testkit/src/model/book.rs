//! [`Book`]: what happened, in order, and the reference's judgement on it.

use std::fmt::Debug;

use parking_lot::Mutex;
use poolyard_core::PoolConfig;
use tokio::time::Instant;

use super::event::Event;
use super::invariant::Broken;
use super::reference::Reference;

/// Changes what the reference is told, to see whether it notices; `None` hides it.
pub(super) type Bend<K> = fn(Event<K>) -> Option<Event<K>>;

/// Shared by the users and the manager of one pool. Not locked while anything else is called.
pub(super) struct Book<K>(Mutex<Pages<K>>);

struct Pages<K> {
    reference: Reference<K>,
    began: Instant,
    history: Vec<String>,
    broken: Option<Broken>,
    bend: Option<Bend<K>>,
}

impl<K: Clone + Eq + Debug> Book<K> {
    pub(super) fn new(config: &PoolConfig, slack: std::time::Duration, bend: Option<Bend<K>>) -> Self {
        Self(Mutex::new(Pages {
            reference: Reference::new(config, slack),
            began: Instant::now(),
            history: Vec::new(),
            broken: None,
            bend,
        }))
    }

    /// Takes note. After the first broken promise nothing is noted any more.
    pub(super) fn tell(&self, event: Event<K>) {
        let mut pages = self.0.lock();
        let bent = match pages.bend {
            Some(bend) => bend(event),
            None => Some(event),
        };
        let Some(event) = bent.filter(|_| pages.broken.is_none()) else { return };
        let now = pages.began.elapsed();
        let line = format!("{:>9.1?}  {event}", now);
        // A look that shows the same as the one before says nothing.
        if pages.history.last().is_none_or(|last| !matches!(event, Event::Seen(_)) || !said(last, &event)) {
            pages.history.push(line);
        }
        pages.broken = pages.reference.observe(now, &event).err();
    }

    /// Takes note of a step that is about to be taken.
    pub(super) fn headline(&self, line: String) {
        let mut pages = self.0.lock();
        if pages.broken.is_none() {
            pages.history.push(line);
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.0.lock().broken.is_some()
    }

    /// The broken promise, if there is one, and all that happened before.
    pub(super) fn verdict(&self) -> (Option<Broken>, Vec<String>) {
        let pages = self.0.lock();
        (pages.broken.clone(), pages.history.clone())
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Reference<K>) -> T) -> T {
        read(&self.0.lock().reference)
    }
}

fn said<K: Debug>(line: &str, event: &Event<K>) -> bool {
    line.ends_with(&event.to_string())
}
