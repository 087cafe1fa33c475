//! Prefork servers.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use poolyard_process::worker::Activity;
use poolyard_process::{
    Accept, Exit, PreforkServer, ServerConfig, Spawner, Stage, WorkerSpec, systemd_sockets,
};

use crate::support::{eventually, exists, gone, role};

const ALL: [Accept; 5] =
    [Accept::Inherit, Accept::ReusePort, Accept::Notify, Accept::Pass, Accept::PerRequest];
/// Those with which nothing that waits is lost with a worker.
const SAFE: [Accept; 4] = [Accept::Inherit, Accept::Notify, Accept::Pass, Accept::PerRequest];

fn entry() -> WorkerSpec {
    WorkerSpec::entry("server")
}

async fn start(spec: WorkerSpec, config: ServerConfig) -> PreforkServer {
    let server = PreforkServer::tcp((Ipv4Addr::LOCALHOST, 0).into(), spec, config).expect("a server");
    server.ready().await;
    server
}

fn ask(address: SocketAddr, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(line.as_bytes())?;
    stream.write_all(b"\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    // A connection that is closed without an answer is a lost request.
    if answer.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

/// Clients that ask until they are stopped, and count.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, clients: usize, line: &'static str) -> Self {
        let (stop, served, lost) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let client = || {
            let (stop, served, lost) = (stop.clone(), served.clone(), lost.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer =
                        ask(address, line).inspect_err(|error| eprintln!("a request is lost: {error}"));
                    let count = if answer.is_ok() { &served } else { &lost };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..clients).map(|_| client()).collect();
        Self { stop, served, lost, clients }
    }

    async fn more(&self, count: usize) {
        let before = self.served.load(Ordering::Relaxed);
        eventually("more answers", || (self.served.load(Ordering::Relaxed) >= before + count).then_some(()))
            .await;
    }

    fn finish(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().for_each(|client| client.join().expect("no panic"));
        (self.served.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_accepting_serves_with_all_workers() {
    for accept in ALL {
        let ways = [
            ("entry", entry()),
            ("direct", role("server").spawner(Spawner::Direct)),
            ("zygote", role("server").spawner(Spawner::Zygote)),
        ];
        for (way, spec) in ways {
            let server = start(spec, ServerConfig::workers(3).accept(accept)).await;
            let address = server.address().expect("an address");
            let load = Load::start(address, 8, "slow 1");
            load.more(300).await;
            let (_, lost) = load.finish();
            assert_eq!(lost, 0, "{accept:?} {way}");
            let board = server.scoreboard();
            assert!(
                board.len() == 3 && board.iter().all(|w| w.connections > 0),
                "{accept:?} {way}: {board:?}"
            );
            let pids: Vec<i32> = board.iter().map(|worker| worker.pid).collect();
            server.stop().await;
            assert!(pids.into_iter().all(|pid| !exists(pid)), "{accept:?} {way}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_under_load_loses_no_request() {
    // Not with a listener per worker: what waits in one is lost with it, as its documentation says.
    for accept in SAFE {
        let server = start(entry().env("VERSION", "1"), ServerConfig::workers(3).accept(accept)).await;
        let address = server.address().expect("an address");
        let load = Load::start(address, 8, "slow 1");
        for version in ["2", "3"] {
            load.more(50).await;
            server.roll(entry().env("VERSION", version)).await;
        }
        load.more(50).await;
        let (served, lost) = load.finish();
        assert_eq!(lost, 0, "{accept:?}: of {served}");
        assert!(ask(address, "hello").expect("an answer").ends_with('3'), "{accept:?}");
        assert!(server.deaths().is_empty(), "{accept:?}: {:?}", server.deaths());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retirement_by_count_under_load_loses_no_request() {
    for accept in SAFE {
        let server = start(entry().max_calls(40), ServerConfig::workers(2).accept(accept)).await;
        let first: Vec<i32> = server.scoreboard().iter().map(|worker| worker.pid).collect();
        let load = Load::start(server.address().expect("an address"), 6, "slow 1");
        load.more(400).await;
        for pid in first {
            gone(pid).await;
        }
        let (served, lost) = load.finish();
        assert_eq!(lost, 0, "{accept:?}: of {served}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_loses_at_most_the_request_that_it_was_executing() {
    for accept in SAFE {
        let server = start(entry(), ServerConfig::workers(3).accept(accept)).await;
        let load = Load::start(server.address().expect("an address"), 12, "slow 1");
        let kills = 10;
        for kill in 0..kills {
            load.more(20).await;
            server.ready().await;
            // Each in turn, since a slot whose worker died young is filled after a pause that grows.
            let victim = server.scoreboard()[kill % 3].pid;
            std::process::Command::new("kill")
                .args(["-KILL", &victim.to_string()])
                .status()
                .expect("kill runs");
            gone(victim).await;
        }
        load.more(20).await;
        let (served, lost) = load.finish();
        assert!(lost <= kills, "{accept:?}: {lost} lost with {kills} kills, {served} served");
        eventually("an account of every death", || (server.deaths().len() == kills).then_some(())).await;
        assert!(server.deaths().iter().all(|death| death.exit == Exit::Signal(9) && death.kill.is_none()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_a_stopped_worker_has_not_taken_go_to_another() {
    let server = start(entry(), ServerConfig::workers(2).accept(Accept::Pass)).await;
    let address = server.address().expect("an address");
    // A stopped worker is handed connections that it does not take.
    let victim = server.scoreboard()[0].pid.to_string();
    std::process::Command::new("kill").args(["-STOP", &victim]).status().expect("kill runs");
    let clients: Vec<_> = (0..8).map(|_| std::thread::spawn(move || ask(address, "x"))).collect();
    eventually("the other worker's answers", || {
        (server.scoreboard().iter().map(|worker| worker.connections).sum::<u64>() >= 6).then_some(())
    })
    .await;
    std::process::Command::new("kill").args(["-KILL", &victim]).status().expect("kill runs");
    for client in clients {
        client.join().expect("no panic").expect("no request is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_the_same_time_are_served_by_different_workers() {
    for accept in [Accept::Inherit, Accept::Pass] {
        let server = start(entry(), ServerConfig::workers(4).accept(accept)).await;
        let address = server.address().expect("an address");
        let clients: Vec<_> = (0..4).map(|_| std::thread::spawn(move || ask(address, "slow 500"))).collect();
        let served = clients.into_iter().map(|client| client.join().expect("no panic").expect("an answer"));
        assert_eq!(served.collect::<BTreeSet<String>>().len(), 4, "{accept:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_workers_come_while_all_are_busy_and_go_when_it_is_calm() {
    let mut config = ServerConfig::workers(1).up_to(3);
    config.calm = Duration::from_millis(200);
    let server = start(entry(), config).await;
    let address = server.address().expect("an address");
    assert_eq!(server.scoreboard().len(), 1);
    let clients: Vec<_> = (0..3).map(|_| std::thread::spawn(move || ask(address, "slow 800"))).collect();
    eventually("a second worker", || (server.scoreboard().len() >= 2).then_some(())).await;
    for client in clients {
        client.join().expect("no panic").expect("an answer");
    }
    eventually("calm", || (server.scoreboard().len() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_callers_there_is_no_worker_and_the_first_caller_gets_one() {
    for accept in SAFE {
        let mut config = ServerConfig::on_demand(2).accept(accept);
        config.calm = Duration::from_millis(100);
        let server = start(entry(), config).await;
        for _ in 0..2 {
            assert!(server.scoreboard().is_empty(), "{accept:?}");
            ask(server.address().expect("an address"), "x").expect("an answer");
            eventually("calm", || server.scoreboard().is_empty().then_some(())).await;
        }
        server.stop().await;
    }
    let config = ServerConfig::on_demand(2).accept(Accept::ReusePort);
    let refused = PreforkServer::tcp((Ipv4Addr::LOCALHOST, 0).into(), entry(), config);
    assert!(refused.is_err_and(|error| error.stage() == Stage::Listen));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_workers_stay_as_long_as_all_are_busy() {
    let mut config = ServerConfig::workers(1).up_to(2);
    config.calm = Duration::from_millis(100);
    let server = start(entry(), config).await;
    let load = Load::start(server.address().expect("an address"), 6, "slow 20");
    eventually("a second worker", || (server.scoreboard().len() == 2).then_some(())).await;
    let pids: BTreeSet<i32> = server.scoreboard().iter().map(|worker| worker.pid).collect();
    load.more(60).await;
    assert_eq!(pids, server.scoreboard().iter().map(|worker| worker.pid).collect());
    let (_, lost) = load.finish();
    assert_eq!(lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_before_a_stop_is_served() {
    let server = start(entry(), ServerConfig::workers(1).accept(Accept::Pass)).await;
    let address = server.address().expect("an address");
    let mut clients: Vec<_> = (0..8).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    eventually("the last accept", || (in_the_kernel(address) == 0).then_some(())).await;
    for client in &mut clients {
        client.write_all(b"slow 10\n").expect("written");
    }
    server.stop().await;
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("read");
        assert!(!answer.is_empty(), "a connection that was accepted is served");
    }
}

/// How many connections wait to be accepted.
fn in_the_kernel(address: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let local = format!(" 0100007F:{:04X} ", address.port());
    // State 0A is LISTEN; then come the queues, `tx:rx`.
    let line = table.lines().find(|line| line.contains(&local) && line.contains(" 0A ")).expect("a listener");
    let queues = line.split_whitespace().nth(4).expect("the queues");
    usize::from_str_radix(queues.split_once(':').expect("two").1, 16).expect("a number")
}

/// A host whose listener was opened by somebody else, in the way of systemd.
#[allow(unsafe_code, reason = "descriptors that come as numbers")]
pub(crate) fn activated_host() -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // SAFETY: the first thing that this process does.
        let mut sockets = unsafe { systemd_sockets() };
        assert_eq!(sockets.len(), 1);
        let listener = sockets.remove(0);
        let server = PreforkServer::listener(listener, entry(), ServerConfig::workers(1)).expect("a server");
        server.ready().await;
        std::future::pending().await
    })
}

#[tokio::test]
async fn a_socket_that_was_opened_before_the_host_is_served_by_it() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address");
    // As systemd does: the socket is descriptor 3, and the variables name the process that they are for.
    let mut host = std::process::Command::new("sh")
        .args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\""])
        .arg(std::env::current_exe().expect("an exe"))
        .env(crate::puppet::ROLE, "activated_host")
        .stdin(std::os::fd::OwnedFd::from(listener))
        .spawn()
        .expect("a host");
    let asked = tokio::task::spawn_blocking(move || ask(address, "x")).await.expect("no panic");
    host.kill().expect("killed");
    host.wait().expect("reaped");
    assert_ne!(asked.expect("an answer").trim(), host.id().to_string(), "a worker has answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scoreboard_says_who_is_busy() {
    let server = start(entry(), ServerConfig::workers(2)).await;
    let address = server.address().expect("an address");
    let slow = std::thread::spawn(move || ask(address, "slow 300"));
    let busy = || server.scoreboard().iter().filter(|worker| worker.activity == Activity::Busy).count();
    eventually("a busy worker", || (busy() == 1).then_some(())).await;
    slow.join().expect("no panic").expect("an answer");
    eventually("calm", || (busy() == 0).then_some(())).await;
    assert_eq!(server.scoreboard().iter().map(|worker| worker.connections).sum::<u64>(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_finishes_what_is_under_way() {
    for accept in ALL {
        let server = start(entry(), ServerConfig::workers(2).accept(accept)).await;
        let address = server.address().expect("an address");
        let slow = std::thread::spawn(move || ask(address, "slow 300"));
        let busy = || server.scoreboard().iter().any(|worker| worker.activity == Activity::Busy);
        eventually("a busy worker", || busy().then_some(())).await;
        server.stop().await;
        slow.join().expect("no panic").expect("an answer all the same");
        assert!(server.scoreboard().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_server_ends_its_workers() {
    let server = start(entry(), ServerConfig::workers(2)).await;
    let pids: Vec<i32> = server.scoreboard().iter().map(|worker| worker.pid).collect();
    drop(server);
    for pid in pids {
        gone(pid).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_listens_on_unix_sockets_and_on_sockets_that_it_is_given() {
    let path = std::env::temp_dir().join(format!("poolyard-{}.sock", std::process::id()));
    for accept in [Accept::Inherit, Accept::Pass] {
        let server =
            PreforkServer::unix(&path, entry(), ServerConfig::workers(1).accept(accept)).expect("a server");
        server.ready().await;
        let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("a connection");
        stream.write_all(b"x\n").expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        assert_eq!(answer.trim(), server.scoreboard()[0].pid.to_string());
        std::fs::remove_file(&path).expect("removed");
    }
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let server =
        PreforkServer::listener(listener.into(), entry(), ServerConfig::workers(1)).expect("a server");
    assert_eq!(server.address(), Some(address));
    ask(address, "x").expect("an answer");
}
