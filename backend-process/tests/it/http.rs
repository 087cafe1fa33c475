//! A prefork server of HTTP under the load of a real client, with every request accounted for.

use std::io::Read;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use poolyard_process::{Accept, PreforkServer, ServerConfig, WorkerSpec};

use crate::support::{eventually, gone, installed};

/// Ways of accepting, with how many connections they are tried: there may be more of those that are kept open
/// than workers only if none belongs to a worker.
const ALL: [(Accept, usize); 4] =
    [(Accept::Inherit, 8), (Accept::Notify, 8), (Accept::Pass, 8), (Accept::PerRequest, 64)];

/// Closes connections after a request, or keeps them where they are lent.
fn entry(accept: Accept) -> WorkerSpec {
    let serves = if accept == Accept::PerRequest { "http_requests" } else { "http" };
    WorkerSpec::entry("server").env("SERVES", serves)
}

async fn start(spec: WorkerSpec, accept: Accept) -> PreforkServer {
    let config = ServerConfig::workers(3).accept(accept);
    let server = PreforkServer::tcp((Ipv4Addr::LOCALHOST, 0).into(), spec, config).expect("a server");
    server.ready().await;
    server
}

/// `wrk`, for so many seconds. It counts every connection that ends without a whole answer.
struct Wrk(Child);

#[derive(Debug)]
struct Report {
    answered: usize,
    lost: usize,
    text: String,
}

impl Wrk {
    fn start(server: &PreforkServer, seconds: u32, connections: usize) -> Self {
        let url = format!("http://{}/", server.address().expect("an address"));
        let args = ["-t1", "--timeout", "10s", "-c", &connections.to_string(), "-d"];
        let mut wrk = Command::new("wrk");
        wrk.args(args).arg(format!("{seconds}s")).arg(url).stdout(Stdio::piped());
        Self(wrk.spawn().expect("wrk runs"))
    }

    fn is_over(&mut self) -> bool {
        self.0.try_wait().expect("a status").is_some()
    }

    async fn finish(mut self) -> Report {
        let mut out = self.0.stdout.take().expect("its output");
        let mut text = String::new();
        tokio::task::spawn_blocking(move || out.read_to_string(&mut text).map(|_| text))
            .await
            .expect("no panic")
            .map(|text| {
                self.0.wait().expect("reaped");
                Report::read(text)
            })
            .expect("a report")
    }
}

impl Report {
    fn read(text: String) -> Self {
        let before = |word: &str| {
            let line = text.lines().find(|line| line.contains(word))?;
            line.split_whitespace().next()?.parse().ok()
        };
        // "Socket errors: connect 0, read 1, write 0, timeout 0", and only if there are any.
        let errors = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors:")).unwrap_or("");
        let numbers = errors.split([' ', ',']).filter_map(|word| word.parse::<usize>().ok());
        let wrong = text.lines().any(|line| line.contains("Non-2xx"));
        let (answered, lost) = (before("requests in").unwrap_or(0), numbers.sum::<usize>());
        Self { answered, lost: lost + usize::from(wrong), text }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolls_and_retirements_under_wrk_lose_no_request() {
    if !installed("wrk", "wrk") {
        return;
    }
    for (accept, connections) in ALL {
        let server = start(entry(accept).max_calls(200), accept).await;
        let mut wrk = Wrk::start(&server, 2, connections);
        let mut rolls = 0;
        while !wrk.is_over() {
            rolls += 1;
            server.roll(entry(accept).max_calls(200).env("VERSION", rolls.to_string())).await;
        }
        let report = wrk.finish().await;
        assert!(report.answered > 0 && rolls > 1, "{accept:?}: {report:?}");
        assert_eq!(report.lost, 0, "{accept:?} with {rolls} rolls: {}", report.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sigkill_under_wrk_loses_at_most_the_request_in_hand() {
    if !installed("wrk", "wrk") {
        return;
    }
    for (accept, connections) in ALL {
        let server = start(entry(accept), accept).await;
        let mut wrk = Wrk::start(&server, 2, connections);
        let mut kills = 0;
        while !wrk.is_over() {
            server.ready().await;
            let Some(victim) = server.scoreboard().first().cloned() else { continue };
            // One that has served: then it may well have a request in hand.
            eventually("a request", || {
                let board = server.scoreboard();
                let served = board.iter().any(|w| w.pid == victim.pid && w.connections > 0);
                (served || wrk.is_over()).then_some(())
            })
            .await;
            let status = Command::new("kill").args(["-KILL", &victim.pid.to_string()]).status();
            assert!(status.expect("kill runs").success());
            kills += 1;
            gone(victim.pid).await;
            eventually("an account of the death", || (server.deaths().len() == kills).then_some(())).await;
        }
        let report = wrk.finish().await;
        assert!(report.answered > 0 && kills > 1, "{accept:?}: {report:?}");
        assert!(report.lost <= kills, "{accept:?} with {kills} kills: {}", report.text);
    }
}
