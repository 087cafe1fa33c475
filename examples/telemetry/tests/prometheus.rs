//! A real Prometheus scrapes the example, loads the alerts and answers every query of the dashboard.
//! Needs the programs `prometheus` and `promtool` (Debian's package `prometheus`).

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use poolyard_examples::load;
use poolyard_examples_telemetry::prometheus;
use poolyard_testkit::availability::{Availability, require};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn is_there() -> bool {
    let missing = "install the package `prometheus`";
    let found = Command::new("promtool").arg("--version").output().is_ok_and(|o| o.status.success());
    require("prometheus", &Availability::when(found, missing))
}

fn docs(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(file)
        .canonicalize()
        .expect("the file is there")
}

/// Prometheus in a directory of its own. Ends with this value.
struct Server {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Server {
    fn start(scraped: SocketAddr) -> Outcome<Self> {
        let directory = std::env::temp_dir().join(format!("poolyard-prometheus-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let rules = docs("prometheus/alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs: [{{job_name: pool, static_configs: [{{targets: ['{scraped}']}}]}}]\n",
            rules.display()
        );
        std::fs::write(directory.join("prometheus.yml"), config)?;
        let address = free_address()?;
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Server { child, address, directory })
    }

    /// What the API answers, once it does.
    async fn get(&self, path: &str) -> Outcome<Value> {
        let mut stream = TcpStream::connect(self.address).await?;
        // HTTP/1.0 has no chunks.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        Ok(serde_json::from_str(body)?)
    }

    /// The number of series that a query gives.
    async fn query(&self, query: &str) -> Outcome<usize> {
        let answer = self.get(&format!("/api/v1/query?query={}", percent(query))).await?;
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.len()),
            None => Err(format!("{query}: {answer}").into()),
        }
    }

    /// Waits until the query gives something.
    async fn shows(&self, query: &str) -> Outcome<()> {
        let shown = timeout(Duration::from_secs(60), async {
            while self.query(query).await.unwrap_or(0) == 0 {
                sleep(Duration::from_millis(200)).await;
            }
        });
        shown.await.map_err(|_| format!("{query} gives nothing within 60 s").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn free_address() -> Outcome<SocketAddr> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The queries of the dashboard, with its variables filled in.
fn dashboard() -> Outcome<Vec<String>> {
    let text = std::fs::read_to_string(docs("grafana/poolyard.json"))?;
    let board: Value = serde_json::from_str(&text)?;
    let panels = board["panels"].as_array().ok_or("no panels")?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries = targets.filter_map(|target| target["expr"].as_str());
    Ok(queries.map(|query| query.replace("$pool", ".*").replace("$__rate_interval", "30s")).collect())
}

/// What a healthy load does not show.
fn is_of_trouble(query: &str) -> bool {
    ["abandoned", "blocked", "timed_out", "result=\"error\""].iter().any(|word| query.contains(word))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_the_example_and_answers_the_dashboard() -> Outcome<()> {
    if !is_there() {
        return Ok(());
    }
    let pool = prometheus::pool()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let server = Server::start(listener.local_addr()?)?;
    tokio::spawn(load::run(pool.clone()));
    tokio::spawn(prometheus::serve(listener, prometheus::install()?, pool));

    let queries = dashboard()?;
    assert!(queries.len() > 10, "the dashboard has queries");
    for query in queries {
        match is_of_trouble(&query) {
            true => drop(server.query(&query).await?),
            false => server.shows(&query).await?,
        }
    }
    let rules = server.get("/api/v1/rules").await?;
    let rules = rules["data"]["groups"][0]["rules"].as_array().ok_or("no rules are loaded")?;
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
    Ok(())
}

#[test]
fn every_alert_fires_when_it_should() -> Outcome<()> {
    if !is_there() {
        return Ok(());
    }
    let check =
        Command::new("promtool").args(["test", "rules"]).arg(docs("prometheus/alerts_test.yml")).output()?;
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    Ok(())
}

#[test]
fn every_alert_is_tested() -> Outcome<()> {
    let alerts = std::fs::read_to_string(docs("prometheus/alerts.yml"))?;
    let tests = std::fs::read_to_string(docs("prometheus/alerts_test.yml"))?;
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for name in names {
        assert!(tests.contains(&format!("alertname: {name}\n        exp_alerts:\n")), "{name} has no test");
    }
    Ok(())
}
