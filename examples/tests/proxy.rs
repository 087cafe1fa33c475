//! The promises of the proxy, over real sockets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use poolyard::{Pool, Reason};
use poolyard_examples::proxy::connection::{Connections, pool};
use poolyard_examples::proxy::front::Front;
use poolyard_examples::proxy::message::Message;
use poolyard_examples::proxy::origin::{Authority, Origin};
use poolyard_examples::proxy::source::Pooled;
use poolyard_examples::proxy::upstream::{Route, Upstream};

const HOUR: Duration = Duration::from_secs(3600);

/// Waits for what is sure to happen.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not happen within 20 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn route(upstream: &Upstream, idle_timeout: Duration) -> Route {
    Route { prefix: String::from("/"), upstream: upstream.clone(), idle_timeout }
}

/// A proxy with its pool, to be asked without a client between.
struct Proxy {
    front: Arc<Front<Pooled>>,
    pool: Pool<Connections>,
}

impl Proxy {
    fn new(routes: Vec<Route>, authority: &Authority, max_total: usize) -> Proxy {
        let pool = pool(&routes, authority.client(), max_total).build().unwrap();
        Proxy { front: Front::new(Pooled(pool.clone()), routes), pool }
    }

    /// The answer, which names the connection over which it came.
    async fn ask(&self, upstream: &Upstream) -> String {
        let request = Message::read(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]).await.unwrap().unwrap();
        let answer = self.front.carry(upstream, &request).await.unwrap();
        String::from_utf8(answer.body().to_vec()).unwrap()
    }

    fn ended(&self, reason: Reason) -> u64 {
        self.pool.snapshot().counters.destroyed_for(reason)
    }
}

#[tokio::test]
async fn a_connection_that_its_upstream_closed_is_not_handed_out() {
    let authority = Authority::new(&["shop.test"]).unwrap();
    for (authority_of_origin, name) in [(None, None), (Some(&authority), Some("shop.test"))] {
        let origin = Origin::start(authority_of_origin).await.unwrap();
        let upstream = origin.upstream(name);
        let proxy = Proxy::new(vec![route(&upstream, HOUR)], &authority, 4);
        assert_eq!(proxy.ask(&upstream).await, "connection 1 for /\n");
        assert_eq!(proxy.ask(&upstream).await, "connection 1 for /\n", "it is kept");
        // It may not have begun to listen for the word yet.
        until("the end of the idle connection", || {
            origin.hang_up();
            proxy.ended(Reason::Gone) == 1
        })
        .await;
        assert_eq!(proxy.ask(&upstream).await, "connection 2 for /\n");
        assert_eq!(proxy.front.tally.retried.load(Ordering::Relaxed), 0, "nobody met the dead one");
    }
}

#[tokio::test]
async fn each_upstream_has_its_own_idle_timeout() {
    let authority = Authority::new(&["shop.test"]).unwrap();
    let (hasty, patient) = (Origin::start(None).await.unwrap(), Origin::start(None).await.unwrap());
    let (short, long) = (hasty.upstream(None), patient.upstream(None));
    let routes = vec![route(&short, Duration::from_millis(20)), route(&long, HOUR)];
    let proxy = Proxy::new(routes, &authority, 4);
    proxy.ask(&long).await;
    proxy.ask(&short).await;
    until("the idle timeout", || proxy.ended(Reason::IdleTimeout) == 1 && hasty.open() == 0).await;
    assert_eq!(patient.open(), 1);
    assert_eq!(proxy.ask(&long).await, "connection 1 for /\n");
}

#[tokio::test]
async fn the_least_recently_used_connection_of_any_upstream_makes_room() {
    let authority = Authority::new(&["shop.test"]).unwrap();
    let mut origins = Vec::new();
    for _ in 0..3 {
        origins.push(Origin::start(None).await.unwrap());
    }
    let upstreams: Vec<Upstream> = origins.iter().map(|origin| origin.upstream(None)).collect();
    let routes = upstreams.iter().map(|upstream| route(upstream, HOUR)).collect();
    let proxy = Proxy::new(routes, &authority, 2);
    for index in [0, 1, 0, 2] {
        proxy.ask(&upstreams[index]).await;
    }
    assert_eq!(proxy.ended(Reason::Evicted), 1);
    until("the end of the connection", || origins[1].open() == 0).await;
    assert_eq!(proxy.ask(&upstreams[0]).await, "connection 1 for /\n", "it was used after the evicted one");
}

#[tokio::test]
async fn two_names_behind_one_address_share_no_connection() {
    let authority = Authority::new(&["shop.test", "blog.test"]).unwrap();
    let origin = Origin::start(Some(&authority)).await.unwrap();
    let (shop, blog) = (origin.upstream(Some("shop.test")), origin.upstream(Some("blog.test")));
    let proxy = Proxy::new(vec![route(&shop, HOUR), route(&blog, HOUR)], &authority, 4);
    assert_eq!(proxy.ask(&shop).await, "connection 1 for /\n");
    assert_eq!(proxy.ask(&blog).await, "connection 2 for /\n");
    assert_eq!(proxy.ask(&shop).await, "connection 1 for /\n");
}

#[tokio::test]
async fn an_upstream_whose_certificate_carries_another_name_is_refused() {
    let authority = Authority::new(&["shop.test"]).unwrap();
    let origin = Origin::start(Some(&authority)).await.unwrap();
    let upstream = origin.upstream(Some("other.test"));
    let proxy = Proxy::new(vec![route(&upstream, HOUR)], &authority, 4);
    let error = proxy.pool.acquire(&upstream).await.err().expect("a handshake that fails");
    assert!(matches!(error, poolyard::AcquireError::Create(_)), "{error}");
}
