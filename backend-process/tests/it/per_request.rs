//! Connections that are lent to a worker for one request at a time.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use poolyard_process::worker::Activity;
use poolyard_process::{Accept, PreforkServer, ServerConfig, WorkerSpec};

use crate::support::{eventually, gone};

fn entry() -> WorkerSpec {
    WorkerSpec::entry("server").env("SERVES", "lines")
}

async fn start(spec: WorkerSpec, config: ServerConfig) -> PreforkServer {
    let config = config.accept(Accept::PerRequest);
    let server = PreforkServer::tcp((Ipv4Addr::LOCALHOST, 0).into(), spec, config).expect("a server");
    server.ready().await;
    server
}

/// A client that keeps its connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(server: &PreforkServer) -> Self {
        let stream = TcpStream::connect(server.address().expect("an address")).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        Self(BufReader::new(stream))
    }

    fn send(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).expect("written");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        line.trim().to_owned()
    }

    /// The process that answers.
    fn ask(&mut self, line: &str) -> i32 {
        self.send(line);
        let answer = self.answer();
        assert!(answer.ends_with(line), "{answer:?}");
        answer.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid")
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.0.get_mut().read(&mut [0]), Ok(0))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_that_are_kept_open_share_few_workers() {
    let server = start(entry(), ServerConfig::workers(2)).await;
    let mut clients: Vec<_> = (0..50).map(|_| Client::new(&server)).collect();
    let mut pids = BTreeSet::new();
    for round in 0..4 {
        clients.iter_mut().for_each(|client| client.send(&format!("slow 1 {round}")));
        for client in &mut clients {
            let answer = client.answer();
            assert!(answer.ends_with(&format!("slow 1 {round}")), "{answer}");
            pids.insert(answer.split(' ').next().expect("a pid").to_owned());
        }
    }
    assert_eq!(pids.len(), 2, "both have worked");
    assert_eq!(server.scoreboard().iter().map(|worker| worker.connections).sum::<u64>(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_goes_to_whichever_worker_is_free() {
    let server = start(entry(), ServerConfig::workers(2)).await;
    let (mut one, mut two) = (Client::new(&server), Client::new(&server));
    for _ in 0..10 {
        // Answered after another line only.
        two.send("wait");
        let busy = || server.scoreboard().iter().any(|worker| worker.activity == Activity::Busy);
        eventually("a busy worker", || busy().then_some(())).await;
        let other = one.ask("y");
        two.send("go on");
        let held = two.answer();
        assert!(!held.starts_with(&format!("{other} ")), "a free worker answers beside a busy one");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sends_ahead_is_answered_in_order() {
    let server = start(entry(), ServerConfig::workers(2)).await;
    let mut client = Client::new(&server);
    let lines: Vec<String> = (0..500).map(|n| format!("n{n}")).collect();
    for piece in lines.chunks(7) {
        client.send(&piece.join("\n"));
    }
    for line in &lines {
        assert!(client.answer().ends_with(&format!(" {line}")), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_outlive_rolls_and_retirements() {
    let server = start(entry().env("VERSION", "1").max_calls(20), ServerConfig::workers(2)).await;
    let mut clients: Vec<_> = (0..10).map(|_| Client::new(&server)).collect();
    let mut ask_all = |times: usize| {
        let asked =
            clients.iter_mut().flat_map(|client| (0..times).map(|_| client.ask("x")).collect::<Vec<_>>());
        asked.collect::<BTreeSet<i32>>()
    };
    assert!(ask_all(20).len() > 2, "worn workers have been replaced under the same connections");
    for version in ["2", "3"] {
        server.roll(entry().env("VERSION", version)).await;
        let now: BTreeSet<i32> = server.scoreboard().iter().map(|worker| worker.pid).collect();
        assert!(ask_all(3).is_subset(&now));
    }
    assert!(server.deaths().is_empty(), "{:?}", server.deaths());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_takes_one_connection_along() {
    let server = start(entry(), ServerConfig::workers(2)).await;
    let mut clients: Vec<_> = (0..20).map(|_| Client::new(&server)).collect();
    clients.iter_mut().for_each(|client| {
        client.ask("x");
    });
    let mut lost = clients.pop().expect("a client");
    lost.send("exit");
    assert!(lost.is_closed(), "its client is told at once");
    for client in &mut clients {
        client.ask("x");
    }
    assert_eq!(server.deaths().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_wait_too_long_or_are_too_many_are_closed() {
    let mut config = ServerConfig::workers(1);
    config.max_idle = 2;
    let server = start(entry(), config).await;
    let client = |_| {
        let mut client = Client::new(&server);
        client.ask("x");
        client
    };
    let mut clients: Vec<_> = (0..3).map(client).collect();
    // The one that has waited longest.
    assert!(clients[0].is_closed());
    clients[1].ask("x");
    clients[2].ask("x");

    let mut config = ServerConfig::workers(1);
    config.keep_alive = Duration::from_millis(50);
    let server = start(entry(), config).await;
    let mut client = Client::new(&server);
    client.ask("x");
    assert!(client.is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_closes_a_connection_and_a_client_leaves_without_waking_one() {
    let server = start(entry(), ServerConfig::workers(1)).await;
    let mut client = Client::new(&server);
    client.ask("x");
    client.send("bye");
    assert!(client.is_closed());
    let turns = || server.scoreboard()[0].connections;
    eventually("the end of its turn", || (turns() == 2).then_some(())).await;
    for _ in 0..20 {
        drop(Client::new(&server));
    }
    Client::new(&server).ask("x");
    eventually("the last turn", || (turns() >= 3).then_some(())).await;
    assert_eq!(turns(), 3, "those who left without a request have cost no worker a turn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_the_requests_in_hand_and_closes_what_waits() {
    let server = start(entry(), ServerConfig::workers(2)).await;
    let (mut idle, mut busy) = (Client::new(&server), Client::new(&server));
    idle.ask("x");
    busy.send("slow 200");
    let working = || server.scoreboard().iter().any(|w| w.activity == Activity::Busy);
    eventually("a busy worker", || working().then_some(())).await;
    server.stop().await;
    assert!(busy.answer().ends_with("slow 200"));
    assert!(busy.is_closed() && idle.is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_while_it_holds_connections_loses_none_that_it_has_not_taken() {
    let server = start(entry(), ServerConfig::workers(2)).await;
    let mut clients: Vec<_> = (0..8).map(|_| Client::new(&server)).collect();
    clients.iter_mut().for_each(|client| {
        client.ask("x");
    });
    // Once it has served a later request of somebody else, it has given all of theirs back.
    let victim = server.scoreboard()[0].pid;
    let mut another = Client::new(&server);
    while another.ask("x") != victim {}
    let kill = |signal: &str| {
        let status = std::process::Command::new("kill").args([signal, &victim.to_string()]).status();
        assert!(status.expect("kill runs").success());
    };
    let survivor =
        || server.scoreboard().iter().filter(|w| w.pid != victim).map(|w| w.connections).sum::<u64>();
    let before = survivor();
    kill("-STOP");
    clients.iter_mut().for_each(|client| client.send("y"));
    // The one that is stopped has been handed two at most.
    eventually("the other worker's answers", || (survivor() >= before + 6).then_some(())).await;
    kill("-KILL");
    gone(victim).await;
    for client in &mut clients {
        assert!(client.answer().ends_with('y'), "no request is lost");
    }
}
