//! A collector of a few lines receives what the example sends: spans, the pool's events in them, gauges.

use std::sync::{Arc, Mutex};

use poolyard::Pool;
use poolyard_examples::load::Workshops;
use poolyard_examples_telemetry::otel::{self, Traced};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tracing::Instrument;

type Received = Arc<Mutex<Vec<(String, Value)>>>;

/// Takes OTLP in JSON, and agrees to all of it.
async fn collect(listener: TcpListener, received: Received) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(talk(stream, received.clone()));
    }
}

async fn talk(stream: TcpStream, received: Received) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut request, mut length) = (String::new(), 0);
        if stream.read_line(&mut request).await? == 0 {
            return Ok(());
        }
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await?;
            match header.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", number)) => length = number.parse().expect("a number"),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        received.lock().unwrap().push((path, serde_json::from_slice(&body)?));
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Every value under `name`, at any depth.
fn all<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(name));
            fields.values().for_each(|value| all(value, name, found));
        }
        Value::Array(values) => values.iter().for_each(|value| all(value, name, found)),
        _ => {}
    }
}

fn spans(received: &[(String, Value)]) -> Vec<&Value> {
    let mut lists = Vec::new();
    received
        .iter()
        .filter(|(path, _)| path == "/v1/traces")
        .for_each(|(_, body)| all(body, "spans", &mut lists));
    lists.into_iter().filter_map(Value::as_array).flatten().collect()
}

fn named<'a>(list: &[&'a Value], name: &str) -> Option<&'a Value> {
    list.iter().find(|value| value["name"] == name).copied()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_receives_spans_events_and_gauges() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    let received = Received::default();
    tokio::spawn(collect(listener, received.clone()));

    let telemetry = otel::install(&endpoint).expect("it is the only one in this process");
    let pool =
        Pool::builder(Traced(Workshops::default())).name("seen").build().expect("the options are possible");
    telemetry.watch(&pool);
    let job = tracing::info_span!(target: "poolyard_example", "job");
    async { drop(pool.acquire(&"red").await.expect("there is room")) }.instrument(job).await;
    let again = pool.acquire(&"red").await.expect("it comes back, recycled");
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await.unwrap().expect("the collector answers");
    drop(again);

    let received = received.lock().unwrap();
    let spans = spans(&received);
    let job = named(&spans, "job").expect("the user's span");
    let events: Vec<_> = job["events"].as_array().expect("it has events").iter().collect();
    assert!(named(&events, "poolyard: acquired").is_some(), "{events:#?}");
    assert!(named(&events, "poolyard: returned").is_some(), "{events:#?}");
    assert!(named(&spans, "create").is_some(), "the manager's span in the driver");
    assert!(named(&spans, "recycle").is_some(), "the manager's span in the driver");

    let mut metrics = Vec::new();
    received
        .iter()
        .filter(|(path, _)| path == "/v1/metrics")
        .for_each(|(_, b)| all(b, "metrics", &mut metrics));
    let metrics: Vec<_> = metrics.into_iter().filter_map(Value::as_array).flatten().collect();
    let resources = named(&metrics, "poolyard.resources").expect("the gauge").to_string();
    assert!(resources.contains("leased") && resources.contains("seen"), "{resources}");
    assert!(named(&metrics, "poolyard.waiters").is_some());
}
