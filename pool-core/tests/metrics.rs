//! A pool's events reach the recorder of the `metrics` facade.
#![cfg(feature = "metrics")]

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use poolyard_core::{Lease, MetricsObserver, Pool};
use poolyard_testkit::FakeManager;

#[test]
fn events_and_snapshots_become_metrics() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let pool =
                Pool::builder(FakeManager::new()).observer(MetricsObserver::new("fakes")).build().unwrap();
            drop(pool.acquire(&1).await.unwrap());
            drop(pool.acquire(&1).await.unwrap());
            Lease::detach(pool.acquire(&1).await.unwrap()).end();
            pool.snapshot().report("fakes");
        });
    });
    let mut seen = std::collections::BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        assert!(labels.contains(&"pool=fakes".to_owned()), "{key:?} names its pool");
        seen.insert(format!("{} {}", key.key().name(), labels.join(",")), value);
    }
    let count = |name: &str| match seen.get(name) {
        Some(DebugValue::Counter(count)) => *count,
        other => panic!("{name} is {other:?}; there are {:?}", seen.keys()),
    };
    assert_eq!(count("poolyard_returned_total pool=fakes"), 2);
    assert_eq!(count("poolyard_acquired_total pool=fakes,waited=true"), 3, "a creation, then recycles");
    assert_eq!(count("poolyard_detached_total pool=fakes"), 1);
    let created = &seen["poolyard_create_seconds pool=fakes,result=ok"];
    assert!(matches!(created, DebugValue::Histogram(values) if values.len() == 1), "{created:?}");
    assert!(matches!(seen["poolyard_keys pool=fakes"], DebugValue::Gauge(keys) if keys.into_inner() == 0.0));
}
