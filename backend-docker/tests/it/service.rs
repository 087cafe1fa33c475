//! The use case of tests: real services, one for each test, cleaned in between. And real pulls.

use std::process::{Command as HostCommand, Stdio};
use std::time::Duration;

use poolyard_core::Lease;
use poolyard_docker::{Check, Container, ContainerSpec, Port, Reset, Wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::engine::{IMAGE, docker, pool_of, required, sandbox, scene};

/// Whether a program of Debian's is installed; if not, the reason is printed.
fn installed(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|dir| dir.join(program).exists());
    if !found {
        assert!(!required(program), "{program} is required, but not installed");
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// An image of nothing but Debian's Redis and the libraries that it needs; no registry is asked.
fn redis_root() -> Vec<u8> {
    let script = "set -e; r=$(mktemp -d); mkdir -p $r/bin $r/data $r/tmp; \
        p=$(command -v redis-server); cp -L $p $r/bin/redis-server; \
        for l in $(ldd $p | grep -o '/[^ ]*'); do mkdir -p $r$(dirname $l); cp -L $l $r$l; done; \
        tar -C $r -c .; rm -rf $r";
    let output = HostCommand::new("bash").arg("-c").arg(script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

async fn redis(container: &Container, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(container.addr(6379).unwrap()).await?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

fn redis_spec() -> ContainerSpec {
    let flush = Check::new("flushall", |container| {
        Box::pin(async move {
            match redis(container, "FLUSHALL").await {
                Ok(reply) if reply.starts_with("+OK") => Ok(()),
                // Any command that fails will do: the container is thrown away.
                _ => container.read_file("/no/such/file", 0).await.map(drop),
            }
        })
    });
    ContainerSpec::service("poolyard-test-redis:1")
        .cmd([
            "/bin/redis-server",
            "--save",
            "",
            "--dir",
            "/data",
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
        ])
        .no_capabilities()
        .publish(Port::tcp(6379))
        .wait(Wait::All(vec![Wait::log("Ready to accept connections"), Wait::Port(6379)]))
        .reset(Reset::Hook(flush))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_service_is_made_once_and_is_clean_for_each_test() {
    let Some(scene) = scene() else { return };
    let manager = scene.manager();
    if !installed("redis-server") {
        return;
    }
    manager.import_image("poolyard-test-redis:1", redis_root(), &["ENV PATH=/bin"]).await.unwrap();
    let pool = pool_of(&manager, 2);
    let tests = (0..6).map(|n| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let container = pool.acquire(&redis_spec()).await.unwrap();
            assert_eq!(redis(&container, "DBSIZE").await.unwrap(), ":0\r\n+OK\r\n", "somebody else's keys");
            assert_eq!(redis(&container, &format!("SET key {n}")).await.unwrap(), "+OK\r\n+OK\r\n");
            Lease::release(container).await.unwrap();
        })
    });
    for test in tests.collect::<Vec<_>>() {
        test.await.unwrap();
    }
    assert!(manager.numbers().created <= 2, "{:?}", manager.numbers());
    let report = pool.close(Duration::from_secs(30)).await;
    assert_eq!(report.abandoned, 0);
}

/// A registry of our own, ended with the test.
struct Registry {
    child: std::process::Child,
    dir: std::path::PathBuf,
    port: u16,
}

impl Registry {
    async fn start() -> Registry {
        let dir = std::env::temp_dir().join(format!("poolyard-registry-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}/data\nhttp:\n  addr: 127.0.0.1:{port}\n",
            dir.display()
        );
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = HostCommand::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(log.try_clone().unwrap())
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        crate::engine::until("the registry answers", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        Registry { child, dir, port }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_pulled_once_however_many_want_it() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    if !installed("docker-registry") {
        return;
    }
    let registry = Registry::start().await;
    let name = format!("127.0.0.1:{}/pulled:1", registry.port);
    docker(host, &["tag", IMAGE, &name]);
    docker(host, &["push", "-q", &name]);
    docker(host, &["rmi", &name]);
    let before = registry.log().matches("GET /v2/pulled/manifests/1").count();
    let pool = pool_of(&manager, 4);
    let spec = ContainerSpec::sandbox(&name);
    let all = tokio::join!(pool.acquire(&spec), pool.acquire(&spec), pool.acquire(&spec));
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok(), "{all:?}");
    let pulls = registry.log().matches("GET /v2/pulled/manifests/1").count() - before;
    // One request line is logged twice: with and without its answer.
    assert!(pulls <= 2, "{pulls} pulls:\n{}", registry.log());
    drop(all);
    assert_eq!(pool.close(Duration::from_secs(30)).await.abandoned, 0);
    docker(host, &["rmi", "-f", &name]);
    let missing = ContainerSpec::sandbox(format!("127.0.0.1:{}/nothing:1", registry.port));
    let pool = pool_of(&manager, 1);
    let error = pool.acquire(&missing).await.map(drop).unwrap_err();
    assert!(
        matches!(&error, poolyard_core::AcquireError::Create(e) if *e.kind() == poolyard_docker::ErrorKind::ImageMissing),
        "{error:?}"
    );
}

/// The test image as an archive that says it was made for another platform.
pub(crate) fn archive_for(host: &str, platform: &str, archive: &std::path::Path) {
    let name = "poolyard-test-other:1";
    docker(host, &["tag", IMAGE, name]);
    docker(host, &["save", "-o", archive.to_str().unwrap(), name]);
    docker(host, &["rmi", name]);
    let script = r#"
import io, json, sys, tarfile
path, architecture = sys.argv[1], sys.argv[2].split("/")[1]
files = {m.name: (m, tarfile.open(path).extractfile(m).read()) for m in tarfile.open(path) if m.isfile()}
manifest = json.loads(files["manifest.json"][1])
config = manifest[0]["Config"]
changed = json.loads(files[config][1])
changed["architecture"] = architecture
files = {name: file for name, file in files.items() if name not in (config, "repositories", "index.json")}
manifest[0]["Config"] = "changed.json"
files["manifest.json"] = (None, json.dumps(manifest).encode())
files["changed.json"] = (None, json.dumps(changed).encode())
with tarfile.open(path, "w") as tar:
    for name, (_, data) in files.items():
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
"#;
    let arguments = ["-c", script, archive.to_str().unwrap(), platform];
    assert!(HostCommand::new("python3").args(arguments).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_in_an_archive_is_an_image() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let path = std::env::temp_dir().join(format!("poolyard-root-{}.tar", std::process::id()));
    let container = docker(host, &["create", IMAGE]);
    docker(host, &["export", "-o", path.to_str().unwrap(), &container]);
    docker(host, &["rm", &container]);
    let pool = pool_of(&manager, 2);
    let spec =
        ContainerSpec::sandbox("poolyard-imported:1").pull(poolyard_docker::Pull::Import(path.clone()));
    let (one, two) = tokio::join!(pool.acquire(&spec), pool.acquire(&spec));
    std::fs::remove_file(path).unwrap();
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_takes_the_place_of_a_registry() {
    let Some(scene) = scene() else { return };
    let (manager, host) = (scene.manager(), scene.host());
    let path = std::env::temp_dir().join(format!("poolyard-archive-{}.tar", std::process::id()));
    docker(host, &["tag", IMAGE, "poolyard-archived:1"]);
    docker(host, &["save", "-o", path.to_str().unwrap(), "poolyard-archived:1"]);
    docker(host, &["rmi", "poolyard-archived:1"]);
    let pool = pool_of(&manager, 1);
    let spec = ContainerSpec::sandbox("poolyard-archived:1").pull(poolyard_docker::Pull::Load(path.clone()));
    let container = pool.acquire(&spec).await;
    std::fs::remove_file(path).unwrap();
    assert!(container.is_ok(), "{container:?}");
    drop(sandbox());
}
