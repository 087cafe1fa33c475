//! The floor: the least that could be called the same job. No creation, no limits, no numbers.

use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Resource;
use crate::keyed::KeyedPool;
use crate::subject::{TaskPool, cycles};

/// A lock around a vector. Who finds nothing yields and looks again.
#[derive(Clone)]
pub(crate) struct MutexVec(Arc<Mutex<Vec<Resource>>>);

pub(crate) struct MutexLease<'a> {
    pool: &'a Mutex<Vec<Resource>>,
    resource: Resource,
}

impl MutexVec {
    async fn acquire(&self) -> MutexLease<'_> {
        loop {
            if let Some(resource) = self.0.lock().pop() {
                return MutexLease { pool: &self.0, resource };
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Deref for MutexLease<'_> {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        &self.resource
    }
}

impl Drop for MutexLease<'_> {
    fn drop(&mut self) {
        self.pool.lock().push(self.resource);
    }
}

impl TaskPool for MutexVec {
    const NAME: &'static str = "floor";

    async fn build(size: usize) -> Self {
        MutexVec(Arc::new(Mutex::new(vec![1; size])))
    }

    cycles!(|pool| pool.acquire().await);
}

/// As [`MutexVec`], with tokio's fair semaphore before it.
#[derive(Clone)]
pub(crate) struct SemaphoreVec(Arc<(Semaphore, Mutex<Vec<Resource>>)>);

pub(crate) struct SemaphoreLease<'a> {
    pool: &'a (Semaphore, Mutex<Vec<Resource>>),
    resource: Resource,
}

impl SemaphoreVec {
    async fn acquire(&self) -> SemaphoreLease<'_> {
        self.0.0.acquire().await.expect("the semaphore stays open").forget();
        let resource = self.0.1.lock().pop().expect("a permit is a resource");
        SemaphoreLease { pool: &self.0, resource }
    }
}

impl Deref for SemaphoreLease<'_> {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        &self.resource
    }
}

impl Drop for SemaphoreLease<'_> {
    fn drop(&mut self) {
        self.pool.1.lock().push(self.resource);
        self.pool.0.add_permits(1);
    }
}

impl TaskPool for SemaphoreVec {
    const NAME: &'static str = "floor_semaphore";

    async fn build(size: usize) -> Self {
        SemaphoreVec(Arc::new((Semaphore::new(size), Mutex::new(vec![1; size]))))
    }

    cycles!(|pool| pool.acquire().await);
}

const NIL: u32 = u32::MAX;

/// A resource's place among those of its key, and among all by age.
struct Node<K> {
    key: K,
    key_next: u32,
    key_prev: u32,
    age_next: u32,
    age_prev: u32,
}

/// One lock around a map of keys, the idle resources of each as a stack, and all by age.
pub(crate) struct OneMutex<K>(Mutex<Stacks<K>>);

struct Stacks<K> {
    /// The top of each key's stack.
    tops: HashMap<K, u32>,
    nodes: Vec<Node<K>>,
    oldest: u32,
    newest: u32,
    size: usize,
}

impl<K: Clone + Eq + Hash> Stacks<K> {
    /// An idle resource of the key; else a new one, in the place of the oldest where all are taken.
    fn take(&mut self, key: &K) -> u32 {
        match self.tops.get(key) {
            Some(&top) if top != NIL => {
                self.unlink(top);
                top
            }
            _ if self.nodes.len() < self.size => {
                self.nodes.push(Node {
                    key: key.clone(),
                    key_next: NIL,
                    key_prev: NIL,
                    age_next: NIL,
                    age_prev: NIL,
                });
                self.nodes.len() as u32 - 1
            }
            _ => self.evict(key),
        }
    }

    fn evict(&mut self, key: &K) -> u32 {
        let oldest = self.oldest;
        self.unlink(oldest);
        let old = std::mem::replace(&mut self.nodes[oldest as usize].key, key.clone());
        if self.tops.get(&old) == Some(&NIL) {
            self.tops.remove(&old);
        }
        oldest
    }

    fn put(&mut self, index: u32) {
        let key = &self.nodes[index as usize].key;
        let top = match self.tops.get_mut(key) {
            Some(top) => std::mem::replace(top, index),
            None => self.tops.insert(key.clone(), index).unwrap_or(NIL),
        };
        let newest = std::mem::replace(&mut self.newest, index);
        let node = &mut self.nodes[index as usize];
        (node.key_next, node.key_prev, node.age_next, node.age_prev) = (top, NIL, NIL, newest);
        if top != NIL {
            self.nodes[top as usize].key_prev = index;
        }
        match newest {
            NIL => self.oldest = index,
            _ => self.nodes[newest as usize].age_next = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        let node = &self.nodes[index as usize];
        let (key_prev, key_next, age_prev, age_next) =
            (node.key_prev, node.key_next, node.age_prev, node.age_next);
        match key_prev {
            NIL => *self.tops.get_mut(&node.key).expect("an idle resource has a key") = key_next,
            _ => self.nodes[key_prev as usize].key_next = key_next,
        }
        if key_next != NIL {
            self.nodes[key_next as usize].key_prev = key_prev;
        }
        match age_prev {
            NIL => self.oldest = age_next,
            _ => self.nodes[age_prev as usize].age_next = age_next,
        }
        match age_next {
            NIL => self.newest = age_prev,
            _ => self.nodes[age_next as usize].age_prev = age_prev,
        }
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> KeyedPool<K> for OneMutex<K> {
    const NAME: &'static str = "floor";

    fn build(size: usize) -> Self {
        OneMutex(Mutex::new(Stacks {
            tops: HashMap::new(),
            nodes: Vec::new(),
            oldest: NIL,
            newest: NIL,
            size,
        }))
    }

    async fn cycle(&self, key: &K) {
        let taken = self.0.lock().take(key);
        std::hint::black_box(taken);
        self.0.lock().put(taken);
    }
}

/// As [`OneMutex`], where what is new is made by a task, after another has ended the old one.
pub(crate) struct ByTasks<K>(OneMutex<K>);

impl<K: Clone + Eq + Hash + Send + Sync + 'static> KeyedPool<K> for ByTasks<K> {
    const NAME: &'static str = "floor";

    fn build(size: usize) -> Self {
        ByTasks(OneMutex::build(size))
    }

    async fn cycle(&self, key: &K) {
        let (taken, is_new) = {
            let mut stacks = self.0.0.lock();
            let is_idle = stacks.tops.get(key).is_some_and(|top| *top != NIL);
            (stacks.take(key), !is_idle)
        };
        if is_new {
            for _call in ["destroy", "create"] {
                _ = tokio::spawn(std::future::ready(std::hint::black_box(taken))).await;
            }
        }
        self.0.0.lock().put(taken);
    }
}
