//! FastCGI, against PHP: php-cgi, which serves one connection, and php-fpm, whose master has processes of its own.

use std::path::PathBuf;
use std::time::Duration;

use poolyard_core::{Manager, Reason};
use poolyard_process::{Cause, CgiRequest, Channel, Deadline, FastCgi, Spawner, Worker, WorkerSpec};

use crate::support::{Bench, gone, installed, is_alive, key, skip, soon, text};

const PHP: &str = r#"<?php
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
if (isset($_GET['status'])) { http_response_code((int)$_GET['status']); }
if (isset($_GET['log'])) { error_log('logged by php'); }
if (isset($_GET['size'])) { echo str_repeat('p', (int)$_GET['size']); }
elseif (isset($_GET['hang'])) { sleep(1000); }
elseif (isset($_GET['exit'])) { exec('kill -9 ' . getmypid()); }
elseif (isset($_GET['pid'])) { echo getmypid(); }
else { echo 'body: ' . file_get_contents('php://input'); }
"#;

/// A folder with the script, gone at the end.
struct Site(PathBuf);

impl Site {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("poolyard-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("index.php"), PHP).expect("a script");
        Self(dir)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("text").to_owned()
    }

    fn get(&self, query: &str) -> CgiRequest {
        CgiRequest::get(self.file("index.php"), query)
    }

    fn post(&self, body: impl Into<Vec<u8>>) -> CgiRequest {
        CgiRequest::post(self.file("index.php"), "text/plain", body)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What every responder owes.
async fn serves(worker: &mut Worker<FastCgi>, site: &Site) {
    for round in 0..50 {
        let response = worker.call(&site.post(format!("n{round}")), soon()).await.expect("a response");
        assert_eq!((response.status(), response.header("x-method")), (200, Some("POST")));
        assert_eq!(response.body(), format!("body: n{round}").as_bytes());
    }
    let response = worker.call(&site.get("status=418&log=1"), soon()).await.expect("a response");
    assert_eq!(response.status(), 418);
    assert!(text(response.errors).contains("logged by php") || worker.stderr().contains("logged by php"));
    let large = worker.call(&site.get("size=3000000"), soon()).await.expect("a response");
    assert_eq!(large.body().len(), 3_000_000);
    let upload = worker.call(&site.post(vec![b'u'; 500_000]), soon()).await.expect("a response");
    assert_eq!(upload.body().len(), 500_006);

    let mut parts = 0;
    let request = site.get("size=400000");
    let mut stream = worker.stream(&request, soon()).expect("a stream");
    while stream.next().await.expect("a part").is_some() {
        parts += 1;
    }
    assert!(parts > 3, "{parts} parts");
}

/// A deadline in the middle of a request ends the call, and the worker is given to nobody.
async fn hangs(worker: &mut Worker<FastCgi>, site: &Site) {
    let late = Deadline::after(Duration::from_millis(100));
    let error = worker.call(&site.get("hang=1"), late).await.expect_err("late");
    assert_eq!(error.cause(), &Cause::Deadline);
    assert!(!worker.is_usable());
}

#[tokio::test]
async fn php_cgi_answers_through_fastcgi() {
    if !installed("php-cgi", "php-cgi") {
        return;
    }
    let (site, bench) = (Site::new("cgi"), Bench::with(FastCgi));
    let spec = WorkerSpec::command("php-cgi").channel(Channel::Listener).env("PHP_FCGI_MAX_REQUESTS", "0");
    let mut worker = bench.worker(spec.clone()).await;
    serves(&mut worker, &site).await;
    hangs(&mut worker, &site).await;
}

/// php-fpm as a worker. It listens on what it inherits by the variable that it uses for its own restarts; not
/// on descriptor 0, which it opens anew at its start.
fn php_fpm(site: &Site) -> Option<WorkerSpec> {
    let dirs = ["/usr/sbin", "/usr/local/sbin"].into_iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    let files = dirs.flatten().flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("php-fpm"));
    let Some(program) = files.filter(named).max() else {
        return skip("php-fpm", "php-fpm is not installed");
    };
    let socket = site.file("fpm.sock");
    let settings = format!(
        "[global]\nerror_log = /proc/self/fd/2\n[www]\nuser = root\ngroup = root\nlisten = {socket}\n\
         pm = static\npm.max_children = 2\ncatch_workers_output = yes\n"
    );
    std::fs::write(site.file("fpm.conf"), settings).expect("its settings");
    let run = "exec 3<&0 </dev/null; exec \"$@\"";
    let spec = WorkerSpec::command("sh").args(["-c", run, "sh"]).arg(program).args(["-F", "-R", "-n", "-y"]);
    let spec = spec.arg(site.file("fpm.conf")).env("FPM_SOCKETS", format!("{socket}=3"));
    Some(spec.channel(Channel::Listener).stop_signal(15).stop_grace(Duration::from_secs(5)))
}

#[tokio::test]
async fn php_fpm_answers_through_fastcgi_and_ends_with_all_its_children() {
    let site = Site::new("fpm");
    let Some(spec) = php_fpm(&site) else { return };
    for spawner in [Spawner::Direct, Spawner::Zygote] {
        let (bench, spec) = (Bench::with(FastCgi), spec.clone().spawner(spawner));
        let mut worker = bench.worker(spec.clone()).await;
        serves(&mut worker, &site).await;
        let pid = worker.call(&site.get("pid=1"), soon()).await.expect("a response");
        let child: i32 = text(pid.body().to_vec()).parse().expect("a pid");
        assert_ne!(child, worker.pid(), "a child of the master has answered");
        let cx = bench.context();
        bench.manager.destroy(&key(&spec), &mut worker, Reason::Closed, &cx).await;
        assert!(!is_alive(child) && worker.death().is_some());
    }
}

#[tokio::test]
async fn a_hanging_or_dying_child_of_php_fpm_ends_the_call_at_once_and_the_rest_with_its_worker() {
    let site = Site::new("fpm-ends");
    let Some(spec) = php_fpm(&site) else { return };
    let bench = Bench::with(FastCgi);
    let mut worker = bench.worker(spec.clone()).await;
    hangs(&mut worker, &site).await;
    let pid = worker.pid();
    drop(worker);
    gone(pid).await;

    let mut worker = bench.worker(spec).await;
    let error = worker.call(&site.get("exit=1"), soon()).await.expect_err("no answer");
    // The master lives on and starts another child; the connection has ended.
    assert_eq!(error.cause(), &Cause::Closed, "{error}");
    assert!(!worker.is_usable() && worker.death().is_none());
    let children = children(worker.pid());
    assert!(!children.is_empty());
    drop(worker);
    for child in children {
        gone(child).await;
    }
}

fn children(pid: i32) -> Vec<i32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("a list");
    listed.split_whitespace().map(|child| child.parse().expect("a pid")).collect()
}
