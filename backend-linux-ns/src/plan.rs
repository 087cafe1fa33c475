//! Turns a specification into the keeper's plan: the body of a `Create`.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use poolyard_exec::{Command, Limits, Network};
use poolyard_guest::frame::{Header, Writer};

use crate::error::{Error, ErrorKind, Stage};
use crate::mode::{COMMAND_ID, Ids};
use crate::protocol::{self, Kind, MAX_FRAME, MAX_PARTS, Part};
use crate::seccomp;
use crate::spec::{Background, Base, Inner, ProcView};

/// One part of a root: kind, place inside, and what (a path of the host ends with NUL).
type PartSpec = (Part, CString, Vec<u8>);

/// The frame that asks the launcher for a sandbox, whose runners are born in `cgroup` if there is one.
pub(crate) fn encode(
    spec: &Inner,
    ids: &Ids,
    cgroup: Option<&Path>,
    landlock: &Result<u32, String>,
) -> Result<Vec<u8>, Error> {
    refuse_impossible(&spec.limits)?;
    spec.landlock.check(landlock, spec.writable_root)?;
    let parts = parts(spec)?;
    if parts.len() > MAX_PARTS {
        return Err(invalid(format!("has {} parts, at most {MAX_PARTS} are possible", parts.len())));
    }
    let mut buffer = vec![0; MAX_FRAME];
    let mut writer =
        Writer::new(&mut buffer, Header { kind: Kind::Create as u16, flags: flags(spec), seq: 0 });
    writer.u8(ids.map as u8).u8(network(spec)).u8(match spec.proc_view {
        ProcView::Masked => protocol::proc_view::MASKED,
        ProcView::Minimal => protocol::proc_view::MINIMAL,
    });
    for number in [ids.uid, ids.gid, ids.sub_uid, ids.sub_gid, ids.count, COMMAND_ID, COMMAND_ID] {
        writer.u32(number);
    }
    let inodes = spec.disk_inodes().saturating_add(own_inodes(spec, &parts));
    writer.cstr(&decimal(spec.disk_bytes())).cstr(&decimal(inodes));
    writer.bytes(hostname(spec)?);
    let cgroup = cgroup.map(|dir| CString::new(dir.as_os_str().as_bytes()));
    writer.cstr(&cgroup.transpose().unwrap_or_default().unwrap_or_default());
    writer.bytes(&seccomp::coarse()).bytes(&seccomp::strict(spec.filter, spec.network()));
    spec.landlock.encode(landlock, &mut writer);
    writer.u32(parts.len() as u32);
    for (kind, target, what) in &parts {
        writer.u8(*kind as u8).cstr(target).bytes(what);
    }
    match writer.finish() {
        Ok(frame) => Ok(frame.to_vec()),
        Err(_) => Err(invalid("is too long; use fewer or shorter paths".into())),
    }
}

fn flags(spec: &Inner) -> u16 {
    let set = |on: bool, flag: u16| if on { flag } else { 0 };
    set(spec.background == Background::Keep, protocol::create::KEEP_BACKGROUND)
        | set(spec.writable_root, protocol::create::WRITABLE_ROOT)
}

/// Inodes of a lease's file system that are not the user's: its root, the directories in it, and what each layer
/// of a writable root takes.
fn own_inodes(spec: &Inner, parts: &[PartSpec]) -> u64 {
    const DIRECTORIES: u64 = 4;
    const FOR_LAYERS: u64 = 3;
    const PER_LAYER: u64 = 4;
    let layers = 1 + parts.iter().filter(|(kind, ..)| *kind == Part::Tree).count() as u64;
    DIRECTORIES + if spec.writable_root { FOR_LAYERS + PER_LAYER * layers } else { 0 }
}

/// The same rule as for a command's own limits. A disk of size 0 would even be one without a bound.
fn refuse_impossible(limits: &Limits) -> Result<(), Error> {
    Command::new("any").limits(limits.clone()).validate().map_err(|error| invalid(error.to_string()))
}

fn invalid(what: String) -> Error {
    Error::new(Stage::Spec, ErrorKind::InvalidSpec, what)
}

fn network(spec: &Inner) -> u8 {
    match spec.network() {
        Network::Off => protocol::network::OFF,
        Network::Loopback => protocol::network::LOOPBACK,
        Network::Shared => protocol::network::HOST,
    }
}

fn hostname(spec: &Inner) -> Result<&[u8], Error> {
    let name = spec.hostname.as_bytes();
    match name.len() {
        1..=64 => Ok(name),
        _ => Err(invalid("has a host name that is empty or longer than 64 bytes".into())),
    }
}

fn decimal(number: u64) -> CString {
    CString::new(number.to_string()).expect("digits hold no NUL")
}

fn parts(spec: &Inner) -> Result<Vec<PartSpec>, Error> {
    let mut root = Root::default();
    match &spec.base {
        Base::Directory(path) => root.push(Part::Root, "", host_path(path)?)?,
        Base::HostSystem => host_system(&mut root, spec.network() == Network::Shared)?,
    }
    for (target, source) in &spec.trees {
        root.tree(target, source)?;
    }
    Ok(root.parts)
}

/// Directories of programs and libraries; links among them are kept as links.
pub(crate) const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What programs need of /etc besides accounts.
const ETC_TREES: [&str; 2] = ["etc/alternatives", "etc/ssl"];
const ETC_FILES: [&str; 2] = ["etc/ld.so.cache", "etc/localtime"];
const NETWORK_FILES: [&str; 3] = ["etc/resolv.conf", "etc/hosts", "etc/services"];

fn host_system(root: &mut Root, network: bool) -> Result<(), Error> {
    for name in SYSTEM {
        let path = Path::new("/").join(name);
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_symlink() {
            let text = fs::read_link(&path).map_err(|e| Error::system(Stage::OpenBase, e))?;
            root.push(Part::Link, name, with_nul(text.into_os_string().into_vec())?)?;
        } else {
            root.tree(name, &path)?;
        }
    }
    for name in ETC_TREES.iter().filter(|name| Path::new("/").join(name).is_dir()) {
        root.tree(name, &Path::new("/").join(name))?;
    }
    let files = ETC_FILES.iter().chain(if network { &NETWORK_FILES[..] } else { &[] });
    for name in files.filter(|name| Path::new("/").join(name).is_file()) {
        root.file(name, Part::Copy, with_nul(format!("/{name}").into_bytes())?)?;
    }
    root.file("etc/passwd", Part::Text, PASSWD.into())?;
    root.file("etc/group", Part::Text, GROUP.into())?;
    root.file("etc/nsswitch.conf", Part::Text, NSSWITCH.into())?;
    if !network {
        root.file("etc/hosts", Part::Text, HOSTS.into())?;
    }
    Ok(())
}

const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:user:/box:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

#[derive(Default)]
struct Root {
    parts: Vec<PartSpec>,
    /// Directories that are made already, the keeper's own included.
    made: BTreeSet<String>,
}

impl Root {
    fn push(&mut self, kind: Part, target: &str, what: Vec<u8>) -> Result<(), Error> {
        let target = CString::new(target).map_err(|_| invalid("has a path with a NUL byte".into()))?;
        self.parts.push((kind, target, what));
        Ok(())
    }

    fn tree(&mut self, target: &str, source: &Path) -> Result<(), Error> {
        let target = clean(target)?;
        if !source.is_absolute() {
            return Err(invalid(format!("names `{}`; give an absolute path", source.display())));
        }
        self.parents(&target)?;
        if !self.made.insert(target.clone()) {
            return Err(invalid(format!("shows something at `/{target}` twice; choose another place")));
        }
        self.push(Part::Tree, &target, host_path(source)?)
    }

    fn file(&mut self, target: &str, kind: Part, what: Vec<u8>) -> Result<(), Error> {
        self.parents(target)?;
        self.push(kind, target, what)
    }

    fn parents(&mut self, target: &str) -> Result<(), Error> {
        for (at, _) in target.match_indices('/') {
            let parent = &target[..at];
            if self.made.insert(parent.into()) {
                self.push(Part::Dir, parent, Vec::new())?;
            }
        }
        Ok(())
    }
}

/// A place inside: relative to the root, without detours, and none that the sandbox needs itself.
fn clean(target: &str) -> Result<String, Error> {
    let path = Path::new(target.trim_start_matches('/'));
    let plain = path.components().all(|component| matches!(component, Component::Normal(_)));
    let first = path.components().next().map(|component| component.as_os_str().as_bytes());
    match first {
        Some(b"proc" | b"dev" | b"tmp" | b"box") => {
            Err(invalid(format!("shows something at `/{}`, which the sandbox needs itself", path.display())))
        }
        Some(_) if plain && path.as_os_str().len() < 200 => Ok(path.to_string_lossy().into_owned()),
        _ => Err(invalid(format!("has the place `{target}`; give a plain path of at most 200 bytes"))),
    }
}

fn host_path(path: &Path) -> Result<Vec<u8>, Error> {
    if !path.is_absolute() {
        return Err(invalid(format!("names `{}`; give an absolute path", path.display())));
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => with_nul(path.as_os_str().as_bytes().to_vec()),
        Ok(_) => Err(invalid(format!("names `{}`, which is not a directory", path.display()))),
        Err(e) => Err(Error::system(Stage::OpenBase, e).about(path.display())),
    }
}

fn with_nul(bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    let text = CString::new(bytes).map_err(|_| invalid("has a path with a NUL byte".into()))?;
    Ok(text.into_bytes_with_nul())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SandboxSpec;

    fn refused(spec: SandboxSpec) -> String {
        let error = parts(spec.inner()).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        error.to_string()
    }

    #[test]
    fn a_bad_base_is_refused_with_its_path() {
        let relative = SandboxSpec::builder().root("usr").build();
        assert!(refused(relative).contains("absolute"));
        let missing = SandboxSpec::builder().root("/no/such/directory").build();
        assert!(refused(missing).contains("/no/such/directory"));
        let file = SandboxSpec::builder().root("/etc/passwd").build();
        assert!(refused(file).contains("not a directory"));
    }

    #[test]
    fn a_tree_lies_neither_outside_nor_where_the_sandbox_is_at_home() {
        for place in ["../x", "", "/", "proc/x", "/tmp", "a/../b"] {
            let spec = SandboxSpec::builder().tree(place, "/usr").build();
            assert!(refused(spec).contains("check"), "{place}");
        }
        let twice = SandboxSpec::builder().tree("opt/x", "/usr").tree("/opt/x", "/usr").build();
        assert!(refused(twice).contains("twice"));
    }

    #[test]
    fn parents_are_made_once_and_before_their_children() {
        let spec = SandboxSpec::builder().tree("opt/a/b", "/usr").tree("opt/a/c", "/usr").build();
        let parts = parts(spec.inner()).unwrap();
        let names: Vec<_> = parts.iter().map(|(_, target, _)| target.to_str().unwrap()).collect();
        assert!(names.ends_with(&["opt", "opt/a", "opt/a/b", "opt/a/c"]), "{names:?}");
    }
}
