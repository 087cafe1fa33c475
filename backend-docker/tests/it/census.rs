//! What there is of an engine's, counted where it lives: by the engine itself and in `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

/// Everything that a test could leave behind, one line each.
pub(crate) type Items = BTreeSet<String>;

/// What an engine holds, and this process because of it. `dir` is that of an engine of the tests' own; of
/// anybody else's engine only what has our label counts.
pub(crate) fn take(host: &str, dir: Option<&Path>) -> Items {
    let mut items = held_by_engine(host, dir.is_some());
    items.extend(run_directories());
    items.extend(sockets(&run_base()));
    if let Some(dir) = dir {
        items.extend(watchers(dir));
        items.extend(sockets(&dir.join("docker.sock").to_string_lossy()));
    }
    items
}

const OWNER: &str = "dev.poolyard.owner";

/// Containers, networks and volumes. Names of containers change with their lease, so they are left out.
fn held_by_engine(host: &str, all: bool) -> Items {
    let containers = get(host, "/containers/json?all=1");
    let networks = get(host, "/networks");
    let volumes = get(host, "/volumes")["Volumes"].take();
    let mut items = Items::new();
    for (kind, list, name) in
        [("container", containers, "Id"), ("network", networks, "Name"), ("volume", volumes, "Name")]
    {
        for thing in list.as_array().into_iter().flatten() {
            if kind == "container" && is_ghost(host, thing) {
                continue;
            }
            let ours = thing["Labels"][OWNER].as_str();
            if all || ours.is_some_and(|owner| owner.contains(&format!(".{}.", std::process::id()))) {
                let what = thing["Command"].as_str().unwrap_or_default();
                items.insert(format!("{kind} {} {what}", thing[name].as_str().unwrap_or_default()));
            }
        }
    }
    items
}

/// Whether it is listed and not there: where one is removed while Docker 20.10 starts again and removes it as
/// well, the list keeps it.
fn is_ghost(host: &str, container: &Value) -> bool {
    let id = container["Id"].as_str().unwrap_or_default();
    container["State"] == "dead" && get(host, &format!("/containers/{id}/json"))["Id"].is_null()
}

/// Asks the engine without the crate that is tested. No answer means that it holds nothing to be told.
fn get(host: &str, path: &str) -> Value {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut reply = Vec::new();
        let request = format!("GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n");
        let (scheme, address) = host.split_once("://").unwrap_or(("unix", host));
        if scheme == "unix" {
            let mut stream = UnixStream::connect(address)?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut reply)?;
        } else {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut reply)?;
        }
        Ok(reply)
    };
    let Ok(reply) = ask() else { return Value::Null };
    let text = String::from_utf8_lossy(&reply);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{path}: {e}: {text}"))
}

/// Processes of the engine that stand behind one container or one published port: shims of containerd,
/// monitors of Podman, proxies.
fn watchers(dir: &Path) -> Items {
    let (dir, engine) =
        (dir.to_string_lossy(), fs::read_to_string(dir.join("docker.pid")).unwrap_or_default());
    let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let mut items = Items::new();
    for process in names {
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let program = arguments.split(' ').next().unwrap_or_default();
        let of_container = program.contains("containerd-shim")
            // Podman keeps one for minutes after each command that it ran.
            || program.ends_with("conmon") && !arguments.contains("--exec-attach");
        let of_port = program.ends_with("docker-proxy") && parent(&process) == engine.trim();
        if of_container && arguments.contains(&format!("{dir}/")) || of_port {
            items.insert(format!("process {arguments}"));
        }
    }
    items
}

fn parent(process: &Path) -> String {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.unwrap_or_default().trim().to_owned()
}

/// Where this process's managers keep directories for their containers.
fn run_base() -> String {
    // SAFETY: no arguments, cannot fail.
    #[allow(unsafe_code)]
    let uid = unsafe { libc::geteuid() };
    std::env::temp_dir().join(format!("poolyard-docker-{uid}")).to_string_lossy().into_owned()
}

/// Those of containers, below those of this process's managers.
fn run_directories() -> Items {
    let ours = format!(".{}.", std::process::id());
    let managers = fs::read_dir(run_base()).into_iter().flatten().flatten();
    let managers = managers.filter(|entry| entry.file_name().to_string_lossy().contains(&ours));
    let below = managers.flat_map(|manager| fs::read_dir(manager.path()).into_iter().flatten().flatten());
    let containers = below.filter(|entry| entry.path().is_dir());
    containers.map(|entry| format!("directory {}", entry.path().display())).collect()
}

/// Open sockets whose address begins like this: connections of agents, and of clients to the engine.
fn sockets(address: &str) -> Items {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    // Num RefCount Protocol Flags Type St Inode Path; this state: connected.
    let connected = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [.., "03", inode, path] = fields[..] else { return None };
        path.starts_with(address).then_some((inode, path))
    });
    let ours = format!(".{}.", std::process::id());
    let ours = |path: &str| path.ends_with("docker.sock") || path.contains(&ours);
    connected.filter(|(_, path)| ours(path)).map(|(inode, path)| format!("socket {inode} {path}")).collect()
}
