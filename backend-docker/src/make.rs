//! How a container is made. Whatever happens on the way, and whoever stops waiting: nothing of it
//! stays behind.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use poolyard_core::Gone;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::agent::{Link, Program, Spawn, program, wire};
use crate::container::{Container, Main};
use crate::engine::events::Lifeline;
use crate::engine::types::{Image, Inspected};
use crate::engine::{self, Address};
use crate::error::{Error, ErrorKind, Stage};
use crate::exec;
use crate::logs::Logs;
use crate::reset::Baseline;
use crate::run_dir::RunDir;
use crate::shop::{Counts, Shop};
use crate::spec::{ContainerSpec, Injection, Network, Source, mask};
use crate::wait;

/// Makes a container and waits until it is ready.
pub(crate) async fn container(
    shop: &Arc<Shop>,
    spec: &ContainerSpec,
    gone: Gone,
) -> Result<Container, Error> {
    spec.validate()?;
    shop.open();
    let engine = &shop.engine;
    if spec.agent && !engine.http.address.is_local() {
        return Err(too_far(&engine.http.address));
    }
    let image = engine.ensure_image(&spec.image, &spec.platform, &spec.pull).await?;
    let program = match spec.agent {
        true => Some(program(&image.os, &image.architecture)?),
        false => None,
    };
    resources(shop, spec).await?;
    let permit = engine.permit().await?;
    let mut container = started(shop, spec, &image, program).await?;
    drop(permit);
    let deadline = Instant::now() + spec.start_timeout;
    prepare(&mut container, deadline).await?;
    // A death before this is the creation's own error.
    container.lifeline.tell(gone);
    Counts::add(&shop.counts.created, 1);
    Ok(container)
}

/// From a running process 1 to a container that is ready; after a restart as well.
pub(crate) async fn prepare(container: &mut Container, deadline: Instant) -> Result<(), Error> {
    find_addresses(container).await?;
    if let Some(link) = container.link()
        && container.spec.network == Network::Off
    {
        link.loopback_down().await?;
    }
    if container.link().is_some() && container.spec.service {
        container.service_exit = start_service(container).await?;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let spec = container.spec.clone();
    wait::until_ready(container, &spec.wait, left).await?;
    container.baseline = Baseline::take(container).await?;
    Ok(())
}

/// The agent comes by a directory of this machine, and calls a socket in it.
fn too_far(address: &Address) -> Error {
    let message = format!("the agent cannot be put into containers of {address}; use without_agent()");
    Error::new(Stage::Agent, ErrorKind::Unsupported, message)
}

/// Makes the network and the volumes that the specification names, if they do not exist.
async fn resources(shop: &Shop, spec: &ContainerSpec) -> Result<(), Error> {
    let engine = &shop.engine;
    if let Network::Named(name) = &spec.network {
        let known = engine.has_network(name).await?;
        if !known {
            exists_is_fine(engine.create_network(name, shop.owner.labels()).await)?;
        }
    }
    for mount in &spec.mounts {
        if let Source::Volume(name) = &mount.source
            && !engine.has_volume(name).await?
        {
            exists_is_fine(engine.create_volume(name, shop.owner.labels()).await)?;
        }
    }
    Ok(())
}

fn exists_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(e) if *e.kind() != ErrorKind::Conflict => Err(e),
        _ => Ok(()),
    }
}

/// Creates and starts, with other ports if some are taken.
async fn started(
    shop: &Arc<Shop>,
    spec: &ContainerSpec,
    image: &Image,
    program: Option<&'static Program>,
) -> Result<Container, Error> {
    let choices = spec.ports.iter().map(|p| p.choices()).min().unwrap_or(1);
    let first = shop.next_turn();
    let mut turn = 0;
    loop {
        match try_start(shop, spec, image, program, first.wrapping_add(turn)).await {
            Err(e) if *e.kind() == ErrorKind::PortTaken && turn + 1 < choices => turn += 1,
            result => return result,
        }
    }
}

async fn try_start(
    shop: &Arc<Shop>,
    spec: &ContainerSpec,
    image: &Image,
    program: Option<&'static Program>,
    turn: u32,
) -> Result<Container, Error> {
    let (dir, listener) = match program {
        Some(program) => shop.run_dirs()?.make(program).map(|(dir, listener)| (Some(dir), Some(listener)))?,
        None => (None, None),
    };
    let name = shop.next_name();
    let body =
        spec.body(&Injection { agent: dir.as_ref().map(RunDir::path), labels: shop.owner.labels(), turn });
    let lifeline = Lifeline::new();
    let mut half = Half::create(shop, dir, name.clone(), spec.platform.clone(), body);
    let id = half.created().await?;
    shop.follow(&id, &lifeline).await?;
    let logs = Arc::new(Logs::new());
    let (main, exit) = match listener {
        Some(listener) => {
            let link = start_with_agent(shop, &id, &lifeline, listener).await?;
            let dir = half.keep().expect("made with the listener");
            (Main::Agent { link, dir }, watch::channel(None).1)
        }
        None => {
            let started = start_alone(shop, &id, &lifeline, &logs).await?;
            half.keep();
            started
        }
    };
    Ok(Container {
        shop: shop.clone(),
        id,
        name,
        support: exec::support(spec, &image.config),
        spec: spec.clone(),
        image: image.config.clone(),
        ports: Vec::new(),
        ip: None,
        main,
        lifeline,
        logs,
        baseline: Baseline::default(),
        resets: AtomicU64::new(0),
        poisoned: AtomicBool::new(false),
        service_exit: exit,
        removed: false,
    })
}

/// A container that nobody owns yet. Dropped before it is kept, it is removed, even if the engine
/// is still busy creating it.
struct Half {
    shop: Arc<Shop>,
    creation: Option<JoinHandle<Result<String, Error>>>,
    id: Option<String>,
    name: String,
    /// Podman makes it again if it is missing when the container is created.
    dir: Option<RunDir>,
}

impl Half {
    fn create(
        shop: &Arc<Shop>,
        dir: Option<RunDir>,
        name: String,
        platform: String,
        body: bollard::models::ContainerCreateBody,
    ) -> Half {
        let engine = shop.engine.clone();
        let named = name.clone();
        // A task of its own: a call that is dropped may or may not have made a container.
        let creation = tokio::spawn(async move { engine.create(&named, &platform, body).await });
        Half { shop: shop.clone(), creation: Some(creation), id: None, name, dir }
    }

    async fn created(&mut self) -> Result<String, Error> {
        let creation = self.creation.as_mut().expect("asked once");
        let result = creation.await;
        self.creation = None;
        let ended = |_| Error::new(Stage::Create, ErrorKind::Unreachable, "the runtime has ended");
        let id = result.map_err(ended)??;
        self.id = Some(id.clone());
        Ok(id)
    }

    fn keep(mut self) -> Option<RunDir> {
        self.id = None;
        self.dir.take()
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.shop.watch.forget(&id);
            self.shop.remove_later(id);
        }
        let Some(creation) = self.creation.take() else { return };
        let name = Some(std::mem::take(&mut self.name));
        let late = Late { shop: self.shop.clone(), name, _dir: self.dir.take() };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(late.remove(creation));
        }
    }
}

/// A container that the engine may still make, and that nobody wants any more.
struct Late {
    shop: Arc<Shop>,
    /// Until the engine has answered.
    name: Option<String>,
    _dir: Option<RunDir>,
}

impl Late {
    async fn remove(mut self, creation: JoinHandle<Result<String, Error>>) {
        let Ok(made) = creation.await else { return };
        self.name = None;
        if let Ok(id) = made {
            self.shop.remove_later(id);
        }
    }
}

impl Drop for Late {
    /// There is no runtime, or it has ended before the engine answered.
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.shop.engine.http.address.remove_from_a_thread(name, engine::CREATE);
        }
    }
}

/// Starts a container and waits for its agent's call.
pub(crate) async fn start_with_agent(
    shop: &Shop,
    id: &str,
    lifeline: &Arc<Lifeline>,
    listener: UnixListener,
) -> Result<Link, Error> {
    shop.engine.start(id).await?;
    accept(lifeline, listener).await
}

/// Waits for the agent's call, or for the container's end.
pub(crate) async fn accept(lifeline: &Arc<Lifeline>, listener: UnixListener) -> Result<Link, Error> {
    let (line, generation) = (lifeline.clone(), lifeline.generation());
    let closed = move || line.hung_up(generation);
    let limit = Duration::from_secs(20);
    tokio::select! {
        link = Link::accept(listener, closed) => link,
        () = lifeline.death() => Err(Error::crashed(Stage::Agent, lifeline.crash().await)),
        () = tokio::time::sleep(limit) => Err(Error::new(
            Stage::Agent,
            ErrorKind::Timeout(limit),
            "the agent did not call; does the engine run on this machine, and may programs in the run \
             directory be executed?",
        )),
    }
}

type Started = (Main, watch::Receiver<Option<i32>>);

/// Starts a container with its own process 1, whose output we read through the engine.
async fn start_alone(
    shop: &Shop,
    id: &str,
    lifeline: &Arc<Lifeline>,
    logs: &Arc<Logs>,
) -> Result<Started, Error> {
    // Before the start, so that no line is missed.
    let stdio = shop.engine.attach(id).await?;
    shop.engine.start(id).await?;
    let stdio = Arc::new(tokio::sync::Mutex::new(Some(stdio)));
    let (sender, exit) = watch::channel(None);
    let (reader, logs, lifeline) = (Arc::downgrade(&stdio), logs.clone(), lifeline.clone());
    tokio::spawn(async move {
        while let Some(stdio) = reader.upgrade() {
            let mut held = stdio.lock().await;
            let Some(stdio) = held.as_mut() else { break };
            // Looks up now and then whether the container is still wanted.
            match tokio::time::timeout(Duration::from_secs(1), stdio.reader.next()).await {
                Ok(Ok(Some((stream, piece)))) => logs.push(stream, &piece),
                Ok(_) => break,
                Err(_) => {}
            }
        }
        [1, 2].into_iter().for_each(|stream| logs.end(stream));
        lifeline.death().await;
        sender.send_replace(lifeline.now().ended.flatten().map(|code| code as i32));
    });
    Ok((Main::Own { _stdio: stdio }, exit))
}

/// Starts the image's own program under the agent.
async fn start_service(container: &Container) -> Result<watch::Receiver<Option<i32>>, Error> {
    let spec = &container.spec;
    let fill = |text: &String| fill_ports(text, &container.ports);
    let argv: Vec<String> = service_words(container).iter().map(fill).collect::<Result<_, _>>()?;
    let spawn = Spawn {
        flags: if spec.wait.is_for_exit() { wire::LEAVE_TREE } else { wire::SERVICE },
        user: container.user().into(),
        directory: container.support.work_dir().to_vec(),
        capabilities: mask(&spec.capabilities)?,
        argv: argv.iter().map(|a| a.clone().into_bytes()).collect(),
        env: container
            .spec
            .env
            .iter()
            .map(|(name, value)| Ok(format!("{name}={}", fill(value)?).into_bytes()))
            .collect::<Result<_, Error>>()?,
        ..Spawn::default()
    };
    let link = container.agent_link(Stage::Start)?;
    let mut request = link.request(wire::SPAWN, 0, &spawn.encode(), Stage::Start)?;
    if let Err((stage, errno)) = request.started().await? {
        let message = format!("{argv:?}: {}", wire::stage_name(stage));
        return Err(Error::new(Stage::Start, ErrorKind::Spawn(errno), message));
    }
    let (sender, exit) = watch::channel(None);
    let (logs, lifeline) = (container.logs.clone(), container.lifeline.clone());
    let (mut out, mut err) = (request.take_output(1), request.take_output(2));
    let ends_container = spawn.flags == wire::SERVICE;
    tokio::spawn(async move {
        let read = async |stream: &mut crate::agent::OutStream, number| {
            while let Some(piece) = stream.next().await {
                logs.push(number, &piece);
            }
            logs.end(number);
        };
        tokio::join!(read(&mut out, 1), read(&mut err, 2));
        let Ok(end) = request.exit().await else { return };
        let code = exit_code(end.status);
        sender.send_replace(Some(code));
        if ends_container {
            lifeline.service_ended(code, end.oom_kills > 0);
        }
    });
    Ok(exit)
}

fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}

/// As the engine puts them together: a new entrypoint drops the image's command.
fn service_words(container: &Container) -> Vec<String> {
    let (spec, image) = (&container.spec, &container.image);
    let entrypoint = spec.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let kept = if spec.entrypoint.is_some() { &[][..] } else { &image.cmd[..] };
    let cmd = spec.cmd.as_deref().unwrap_or(kept);
    entrypoint.iter().chain(cmd).cloned().collect()
}

/// Replaces `{port:9092}` by the host's port.
fn fill_ports(text: &String, ports: &[(u16, &'static str, SocketAddr)]) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("{port:") {
        let number = after.split_once('}').and_then(|(n, tail)| Some((n.parse::<u16>().ok()?, tail)));
        let found = number.and_then(|(n, tail)| Some((ports.iter().find(|p| p.0 == n)?.2, tail)));
        let Some((address, tail)) = found else {
            let message = format!("{text:?} names a port that is not published");
            return Err(Error::new(Stage::Spec, ErrorKind::BadSpec, message));
        };
        out = out + before + &address.port().to_string();
        rest = tail;
    }
    Ok(out + rest)
}

/// Reads back which ports the engine chose.
async fn find_addresses(container: &mut Container) -> Result<(), Error> {
    if container.spec.ports.is_empty() && matches!(container.spec.network, Network::Off | Network::Loopback) {
        return Ok(());
    }
    let inspected = container.shop.engine.inspect(&container.id).await?;
    container.ip = own_address(&inspected);
    container.ports.clear();
    for port in &container.spec.ports {
        let bindings = inspected.network_settings.ports.get(&port.name()).cloned().flatten();
        let binding = bindings.and_then(|b| b.into_iter().next());
        let address = binding.and_then(|b| {
            let ip: IpAddr = b.host_ip.parse().unwrap_or(port.address);
            Some(SocketAddr::new(ip, b.host_port.parse().ok()?))
        });
        let Some(address) = address else {
            let message = format!("the engine did not publish port {}", port.name());
            return Err(Error::new(Stage::Start, ErrorKind::Protocol, message));
        };
        container.ports.push((port.container, port.protocol, address));
    }
    Ok(())
}

fn own_address(inspected: &Inspected) -> Option<IpAddr> {
    let settings = &inspected.network_settings;
    let all = settings.networks.values().map(|n| &n.ip_address);
    std::iter::once(&settings.ip_address).chain(all).find_map(|ip| ip.parse().ok())
}

/// The agent's directory of a container that has one.
pub(crate) fn run_dir(container: &Container) -> Option<&RunDir> {
    match &container.main {
        Main::Agent { dir, .. } => Some(dir),
        Main::Own { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_stands_in_the_text_that_names_it() {
        let ports = [(9092, "tcp", "127.0.0.1:40000".parse().unwrap())];
        let filled = fill_ports(&"--advertise=127.0.0.1:{port:9092},{port:9092}".into(), &ports).unwrap();
        assert_eq!(filled, "--advertise=127.0.0.1:40000,40000");
        assert!(fill_ports(&"{port:1}".into(), &ports).is_err());
    }
}
