//! The life of a resource: made, leased, recycled, used again, destroyed.

use poolyard_core::{Pool, Reason};
use poolyard_testkit::{FakeManager, Method};
use std::time::Duration;

#[tokio::test]
async fn a_returned_resource_is_recycled_and_used_again() {
    let fake = FakeManager::new();
    let pool = Pool::builder(fake.clone()).max_total(1).build().unwrap();
    let first = pool.acquire(&1).await.unwrap();
    let serial = first.serial();
    drop(first);
    let second = pool.acquire(&1).await.unwrap();
    assert_eq!(second.serial(), serial);
    assert_eq!(fake.count(Method::Create), 1);
    assert_eq!(fake.count(Method::Recycle), 1);
    drop(second);
    let report = pool.close(Duration::from_secs(5)).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(fake.reasons(), [Reason::Closed]);
    fake.assert_clean();
}
