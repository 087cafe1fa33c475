//! Landlock: a wall behind the mounts, or a clear error.

use poolyard_exec::{Command, Exec, Limits, Network};
use poolyard_linux_ns::{ErrorKind, Filter, Landlock, LinuxNs, Sandbox, SandboxSpec, Stage};

use crate::support::{backend, printed, sandbox_of, skip};

/// A sandbox under these rules. Where the kernel cannot enforce them, making it has to fail and to say so.
async fn under(ns: &LinuxNs, what: &str, spec: SandboxSpec) -> Option<Sandbox> {
    let finding = ns.probe().await.finding(&format!("Landlock: {what}")).unwrap().clone();
    let Some(reason) = finding.missing else { return Some(sandbox_of(ns, &spec).await) };
    let error = ns.sandbox(&spec).await.unwrap_err();
    assert_eq!((error.stage(), error.kind()), (Stage::Landlock, ErrorKind::Unsupported), "{error}");
    assert!(error.to_string().contains("needs"), "{error}");
    skip(what, "landlock", &reason);
    None
}

fn rules() -> Landlock {
    // The shell and its libraries; /bin and /lib are links to what is in /usr, or base directories themselves.
    let system =
        ["/usr", "/bin", "/lib", "/lib64"].into_iter().filter(|dir| std::path::Path::new(dir).exists());
    system.fold(Landlock::new(), Landlock::read)
}

#[tokio::test]
async fn what_is_mounted_and_not_allowed_is_closed() {
    let Some(ns) = backend("landlock") else { return };
    let closed = "cat /etc/passwd >/dev/null; echo x > /tmp/x; ls /proc";
    // The same attempts where nothing forbids them.
    let open = crate::support::sandbox(&ns).await;
    assert!(open.exec(&Command::shell(format!("set -e; {closed}"))).await.unwrap().success());
    let spec = SandboxSpec::builder().landlock(rules().write("/box").write("/dev/null")).build();
    let Some(mut sandbox) = under(&ns, "files", spec.clone()).await else { return };
    for round in 0..2 {
        for attempt in ["read x < /etc/passwd", ": > /tmp/x", "ls /proc", "exec /tmp/../etc/passwd"] {
            let outcome = sandbox.exec(&Command::shell(attempt)).await.unwrap();
            assert!(!outcome.success(), "round {round}: {attempt}: {outcome:?}");
            assert!(outcome.stderr.text().contains("ermission denied"), "{attempt}: {outcome:?}");
        }
        assert_eq!(
            printed(&sandbox, "echo kept > /box/a; cat /box/a; [ -e /etc/passwd ] && echo there").await,
            "kept\nthere"
        );
        poolyard_core::Manager::recycle(&ns, &spec, &mut sandbox, &crate::support::context()).await.unwrap();
    }
}

#[tokio::test]
async fn what_may_only_be_read_cannot_be_truncated_either() {
    let Some(ns) = backend("landlock truncate") else { return };
    let spec = SandboxSpec::builder().landlock(rules().read("/tmp").write("/box").write("/dev/null")).build();
    let Some(sandbox) = under(&ns, "writable paths that may only be read", spec).await else { return };
    let mut file = sandbox.create_file("/tmp/kept", 0o666).await.unwrap();
    std::io::Write::write_all(&mut file, b"content").unwrap();
    for attempt in ["truncate -s 0 /tmp/kept", ": > /tmp/kept", "rm /tmp/kept", "mv /tmp/kept /box/kept"] {
        assert!(!sandbox.exec(&Command::shell(attempt)).await.unwrap().success(), "{attempt}");
    }
    assert_eq!(printed(&sandbox, "cat /tmp/kept").await, "content");
}

#[tokio::test]
async fn only_the_ports_that_are_named_can_be_connected_to() {
    let Some(ns) = backend("landlock ports") else { return };
    let spec = |rules: Landlock| {
        let limits = Limits::new().network(Network::Loopback);
        SandboxSpec::builder().landlock(rules).limits(limits).filter(Filter::Judge).build()
    };
    let Some(sandbox) = under(&ns, "TCP ports", spec(Landlock::new().connect(1))).await else { return };
    let connect = |port: u16| {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
        Command::new("bash").arg("-c").arg(script)
    };
    // Nobody listens at either; the difference is who says no.
    let allowed = sandbox.exec(&connect(1)).await.unwrap().stderr.text().into_owned();
    assert!(allowed.contains("refused"), "{allowed}");
    let closed = sandbox.exec(&connect(2)).await.unwrap().stderr.text().into_owned();
    assert!(closed.contains("ermission denied"), "{closed}");
}

#[tokio::test]
async fn abstract_sockets_of_the_host_are_out_of_reach_under_a_scope() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let Some(ns) = backend("landlock scope") else { return };
    let python = std::path::Path::new("/usr/bin/python3").exists();
    if !python {
        return skip("landlock scope", "python3", "there is no python3 in /usr/bin");
    }
    let name = format!("poolyard-scope-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let script =
        format!("import socket; socket.socket(socket.AF_UNIX).connect('\\0{name}'); print('reached')");
    let connect = Command::new("/usr/bin/python3").args(["-c", &script]);
    let shared = || SandboxSpec::builder().network(Network::Shared);
    let open = sandbox_of(&ns, &shared().build()).await;
    assert_eq!(open.exec(&connect).await.unwrap().stdout.text(), "reached\n", "the network is shared");
    let spec = shared().landlock(Landlock::new().scoped()).build();
    let Some(scoped) = under(&ns, "abstract unix sockets", spec).await else { return };
    let outcome = scoped.exec(&connect).await.unwrap();
    assert!(outcome.stderr.text().contains("PermissionError"), "{outcome:?}");
}

#[tokio::test]
async fn a_rule_about_a_path_that_is_not_there_names_its_number() {
    let Some(ns) = backend("landlock path") else { return };
    let spec = SandboxSpec::builder().landlock(rules().read("/usr").read("/no/such/path")).build();
    let error = ns.sandbox(&spec).await.unwrap_err();
    assert_eq!(error.stage(), Stage::Landlock, "{error}");
    let relative = SandboxSpec::builder().landlock(Landlock::new().read("usr")).build();
    let error = ns.sandbox(&relative).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidSpec) && error.to_string().contains("`usr`"), "{error}");
}
