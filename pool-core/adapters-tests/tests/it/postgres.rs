//! `bb8-postgres` and `deadpool-postgres` against a real PostgreSQL.

use bb8_postgres::PostgresConnectionManager;
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use poolyard_adapters_tests::Server;
use poolyard_core::adapters::{Bb8, Deadpool};
use poolyard_core::{Lease, Reason};
use tokio_postgres::{Client, NoTls};

async fn id(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.expect("the server answers").get(0)
}

/// A connection that stands beside all pools.
async fn outside(server: &Server) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn kill(server: &Server, id: i32) {
    let outside = outside(server).await;
    let killed = outside.query_one("SELECT pg_terminate_backend($1, 10000)", &[&id]).await.unwrap();
    assert!(killed.get::<_, bool>(0));
}

/// Uses, a death and a restart, with whatever gives connections. Each must work at its first use.
macro_rules! ordeal {
    ($server:ident, $get:expr) => {{
        let mut ids = Vec::new();
        for _ in 0..10 {
            let connection = $get;
            ids.push(id(&connection).await);
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "one connection serves one user after another");
        kill(&$server, ids[0]).await;
        {
            let connection = $get;
            assert_ne!(id(&connection).await, ids[0], "a dead connection is never handed out");
        }
        $server.stop();
        $server.start();
        let connection = $get;
        assert!(id(&connection).await > 0, "the pool survives a restart");
    }};
}

#[tokio::test]
async fn bb8_postgres_serves_and_survives_as_in_bb8() {
    let Some(mut server) = Server::postgres() else { return };
    let manager = PostgresConnectionManager::new_from_stringlike(server.url(), NoTls).unwrap();
    {
        let pool = bb8::Pool::builder().build(manager.clone()).await.unwrap();
        ordeal!(server, pool.get().await.unwrap());
    }
    let pool = Bb8::builder(manager).build().unwrap();
    ordeal!(server, pool.acquire(&()).await.unwrap());
    assert_eq!(pool.snapshot().counters.destroyed_total(), 2);
}

#[tokio::test]
async fn a_connection_that_died_in_use_is_not_kept() {
    let Some(server) = Server::postgres() else { return };
    let manager = PostgresConnectionManager::new_from_stringlike(server.url(), NoTls).unwrap();
    let pool = Bb8::builder(manager).at_return().build().unwrap();
    let lease = pool.acquire(&()).await.unwrap();
    kill(&server, id(&lease).await).await;
    lease.query_one("SELECT 1", &[]).await.unwrap_err();
    while !lease.is_closed() {
        tokio::task::yield_now().await;
    }
    assert_eq!(Lease::release(lease).await, Err(Reason::Broken));
    assert!(id(&pool.acquire(&()).await.unwrap()).await > 0);
}

#[tokio::test]
async fn deadpool_postgres_serves_and_survives_as_in_deadpool() {
    let Some(mut server) = Server::postgres() else { return };
    // The default, `Fast`, asks only whether the client has noticed yet.
    let config = ManagerConfig { recycling_method: RecyclingMethod::Verified };
    let manager = || Manager::from_config(server.url().parse().unwrap(), NoTls, config.clone());
    let (theirs, ours) = (manager(), manager());
    {
        let pool = deadpool_postgres::Pool::builder(theirs).build().unwrap();
        ordeal!(server, pool.get().await.unwrap());
    }
    let pool = Deadpool::builder(ours).build().unwrap();
    ordeal!(server, pool.acquire(&()).await.unwrap());
    assert_eq!(pool.snapshot().counters.destroyed_for(Reason::Unhealthy), 2);
}

#[tokio::test]
async fn statements_stay_prepared_from_user_to_user() {
    let Some(server) = Server::postgres() else { return };
    let manager = Manager::new(server.url().parse().unwrap(), NoTls);
    let pool = Deadpool::builder(manager).build().unwrap();
    for prepared_before in [0, 1] {
        let lease = pool.acquire(&()).await.unwrap();
        assert_eq!(lease.statement_cache.size(), prepared_before);
        let statement = lease.prepare_cached("SELECT 40 + 2").await.unwrap();
        let row = lease.query_one(&statement, &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 42);
    }
}
