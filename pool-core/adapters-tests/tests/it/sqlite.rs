//! `deadpool-sqlite`, and `diesel-async` in its bb8 form: managers that need no server.

use deadpool_sqlite::Runtime;
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolableConnection};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, SimpleAsyncConnection, TransactionManager};
use poolyard_core::adapters::{Bb8, Deadpool, DeadpoolObject};
use poolyard_core::{AcquireError, Lease, Reason};

#[tokio::test]
async fn deadpool_sqlite_runs_unchanged() {
    let config = deadpool_sqlite::Config::new(":memory:");
    let manager = deadpool_sqlite::Manager::from_config(&config, Runtime::Tokio1);
    let pool = Deadpool::builder(manager).max_total(1).build().unwrap();
    let lease = pool.acquire(&()).await.unwrap();
    let created = lease.interact(|sql| sql.execute_batch("CREATE TABLE memo AS SELECT 7 AS number")).await;
    created.unwrap().unwrap();
    drop(lease);
    let lease = pool.acquire(&()).await.unwrap();
    assert_eq!(DeadpoolObject::metrics(&lease).recycle_count, 1);
    let read = lease.interact(|sql| sql.query_row("SELECT number FROM memo", [], |row| row.get(0))).await;
    assert_eq!(read.unwrap(), Ok(7_i64));
}

#[tokio::test]
async fn a_connection_that_a_panic_poisoned_is_never_handed_out() {
    let config = deadpool_sqlite::Config::new(":memory:");
    let manager = deadpool_sqlite::Manager::from_config(&config, Runtime::Tokio1);
    let pool = Deadpool::builder(manager).max_total(1).build().unwrap();
    let lease = pool.acquire(&()).await.unwrap();
    lease.interact(|_| panic!("a user's mistake")).await.unwrap_err();
    assert!(lease.is_mutex_poisoned());
    drop(lease);
    assert!(!pool.acquire(&()).await.unwrap().is_mutex_poisoned());
    assert_eq!(pool.snapshot().counters.destroyed_for(Reason::Unhealthy), 1);
}

type Diesel = SyncConnectionWrapper<diesel::SqliteConnection>;

#[tokio::test]
async fn diesel_runs_unchanged() {
    let manager = AsyncDieselConnectionManager::<Diesel>::new(":memory:");
    let pool = Bb8::builder(manager).max_total(1).build().unwrap();
    let mut lease = pool.acquire(&()).await.unwrap();
    lease.batch_execute("CREATE TABLE memo (number INTEGER)").await.unwrap();
    drop(lease);
    let mut lease = pool.acquire(&()).await.unwrap();
    lease.batch_execute("INSERT INTO memo VALUES (7)").await.unwrap();
    assert_eq!(pool.snapshot().counters.created, 1);
}

#[tokio::test]
async fn a_transaction_left_open_ends_its_connection() {
    let manager = AsyncDieselConnectionManager::<Diesel>::new(":memory:");
    let pool = Bb8::builder(manager).max_total(1).build().unwrap();
    let mut lease = pool.acquire(&()).await.unwrap();
    <Diesel as AsyncConnection>::TransactionManager::begin_transaction(&mut *lease).await.unwrap();
    assert!(lease.is_broken());
    assert_eq!(Lease::release(lease).await, Err(Reason::Broken));
    assert!(!pool.acquire(&()).await.unwrap().is_broken());
}

#[tokio::test]
async fn the_error_of_a_manager_reaches_the_caller() {
    let config = deadpool_sqlite::Config::new("/nowhere/at/all");
    let manager = deadpool_sqlite::Manager::from_config(&config, Runtime::Tokio1);
    let pool = Deadpool::builder(manager).build().unwrap();
    match pool.acquire(&()).await {
        Err(AcquireError::Create(error)) => assert!(error.to_string().contains("unable to open"), "{error}"),
        other => panic!("{:?}", other.err()),
    }
}
