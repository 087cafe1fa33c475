//! `deadpool-redis` and `bb8-redis` against a real Redis.

use bb8_redis::RedisConnectionManager;
use deadpool_redis::redis::{self, aio::ConnectionLike, aio::MultiplexedConnection};
use poolyard_adapters_tests::Server;
use poolyard_core::adapters::{Bb8, Deadpool, DeadpoolObject};
use poolyard_core::{Lease, Manager, Pool, Reason};

async fn ask<T: redis::FromRedisValue>(connection: &mut impl ConnectionLike, command: &str) -> T {
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().expect("a command has a name"));
    command.arg(words.collect::<Vec<_>>()).query_async(connection).await.expect("the server answers")
}

async fn id(connection: &mut impl ConnectionLike) -> i64 {
    ask(connection, "CLIENT ID").await
}

/// A connection that stands beside all pools.
async fn outside(server: &Server) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// How many connections the server has seen.
async fn connections(outside: &mut MultiplexedConnection) -> u64 {
    let stats: String = ask(outside, "INFO stats").await;
    let line = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    line.expect("Redis counts its connections").trim().parse().unwrap()
}

/// Uses, a death and a restart, with whatever gives connections. Each must work at its first use.
macro_rules! ordeal {
    ($server:ident, $get:expr, $connection:ident => $raw:expr) => {{
        let mut outside = outside(&$server).await;
        let before = connections(&mut outside).await;
        let mut ids = Vec::new();
        for _ in 0..10 {
            let mut $connection = $get;
            ids.push(id($raw).await);
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "one connection serves one user after another");
        let killed: i64 = ask(&mut outside, &format!("CLIENT KILL ID {}", ids[0])).await;
        assert_eq!(killed, 1);
        {
            let mut $connection = $get;
            assert_ne!(id($raw).await, ids[0], "a dead connection is never handed out");
        }
        let made = connections(&mut outside).await - before;
        $server.stop();
        $server.start();
        let mut $connection = $get;
        assert!(id($raw).await > 0, "the pool survives a restart");
        made
    }};
}

#[tokio::test]
async fn deadpool_redis_serves_and_survives_as_in_deadpool() {
    let Some(mut server) = Server::redis() else { return };
    let theirs = {
        let pool = deadpool_redis::Config::from_url(server.url()).create_pool(None).unwrap();
        ordeal!(server, pool.get().await.unwrap(), connection => &mut connection)
    };
    let manager = deadpool_redis::Manager::new(server.url()).unwrap();
    let pool = Deadpool::builder(manager).build().unwrap();
    let ours = ordeal!(server, pool.acquire(&()).await.unwrap(), lease => &mut **lease);
    assert_eq!(ours, theirs);
    assert_eq!(pool.snapshot().counters.destroyed_for(Reason::Unhealthy), 2);
}

#[tokio::test]
async fn bb8_redis_serves_and_survives_as_in_bb8() {
    let Some(mut server) = Server::redis() else { return };
    let manager = RedisConnectionManager::new(server.url()).unwrap();
    let theirs = {
        let pool = bb8::Pool::builder().build(manager.clone()).await.unwrap();
        ordeal!(server, pool.get().await.unwrap(), connection => &mut *connection)
    };
    let pool = Bb8::builder(manager).build().unwrap();
    let ours = ordeal!(server, pool.acquire(&()).await.unwrap(), lease => &mut *lease);
    assert_eq!(ours, theirs);
    assert_eq!(pool.snapshot().counters.destroyed_for(Reason::Unhealthy), 2);
}

/// Whether a transaction goes through although a key changes that the user before had watched.
async fn a_watch_is_forgotten<M: Manager<Key = (), Resource = DeadpoolObject<deadpool_redis::Manager>>>(
    pool: Pool<M>,
    server: &Server,
) {
    let mut outside = outside(server).await;
    let mut lease = pool.acquire(&()).await.unwrap();
    let () = ask(&mut **lease, "WATCH key").await;
    Lease::release(lease).await.unwrap();
    let () = ask(&mut outside, "SET key changed").await;
    let mut lease = pool.acquire(&()).await.unwrap();
    let () = ask(&mut **lease, "MULTI").await;
    let () = ask(&mut **lease, "SET other 1").await;
    let done: Option<Vec<String>> = ask(&mut **lease, "EXEC").await;
    assert_eq!(done, Some(vec![String::from("OK")]));
    assert_eq!(pool.snapshot().counters.created, 1);
}

#[tokio::test]
async fn what_one_user_watched_does_not_stop_the_next() {
    let Some(server) = Server::redis() else { return };
    let builder = || Deadpool::builder(deadpool_redis::Manager::new(server.url()).unwrap());
    a_watch_is_forgotten(builder().build().unwrap(), &server).await;
    a_watch_is_forgotten(builder().at_return().build().unwrap(), &server).await;
}

#[tokio::test]
async fn one_pool_serves_many_servers_by_key() {
    let (Some(one), Some(two)) = (Server::redis(), Server::redis()) else { return };
    let pool = Deadpool::per_key(|url: &String| deadpool_redis::Manager::new(url.as_str()).unwrap());
    let pool = pool.max_total(2).max_per_key(1).build().unwrap();
    for server in [&one, &two] {
        let mut lease = pool.acquire(&server.url()).await.unwrap();
        let () = ask(&mut **lease, &format!("SET me {}", server.url())).await;
    }
    for server in [&one, &two] {
        let me: String = ask(&mut outside(server).await, "GET me").await;
        assert_eq!(me, server.url());
    }
}
