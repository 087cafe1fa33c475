//! [`Landlock`]: what of a sandbox's files, ports and neighbours its commands may use.

use std::ffi::CString;

use poolyard_guest::frame::Writer;

use crate::error::{Error, ErrorKind, Stage};
use crate::protocol::landlock as rule;

/// What commands may use of what a sandbox shows: a second wall, by the kernel's Landlock, behind the mounts
/// and the network. Off unless asked for, since the root shows nothing that a command must not see; it adds
/// something where one root serves keys that may use different parts of it, and to a shared network.
///
/// Files: as soon as one path is named, all others are closed, and so is all that is not named of /proc, /dev,
/// /tmp and /box. Devices and pipes that a command is given stay usable. Names and types of files can be seen
/// still; what they hold cannot.
///
/// Ports: as soon as one is named, other TCP ports are closed. UDP is not covered.
///
/// A kernel that cannot enforce all that is asked for makes the creation of a sandbox fail; nothing is left out in
/// silence. [`probe`](crate::LinuxNs::probe) says which version there is and what it enforces.
///
/// ```
/// use poolyard_linux_ns::{Landlock, SandboxSpec};
///
/// let compute = Landlock::new().read("/usr").read("/etc").read("/proc").write("/dev").write("/box");
/// let spec = SandboxSpec::builder().landlock(compute).build();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Landlock {
    paths: Vec<(Access, String)>,
    ports: Vec<(Use, u16)>,
    scoped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Access {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Use {
    Bind = 1,
    Connect = 2,
}

// Bits of the kernel, and the version in which each became known.
/// To execute, read and list.
const READ: u64 = 0b1101;
const ALL_OF_VERSION_1: u64 = (1 << 13) - 1;
const LINK_ELSEWHERE: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const BIND_AND_CONNECT: u64 = 0b11;
const ABSTRACT_UNIX_AND_SIGNALS: u64 = 0b11;

const FILES: u32 = 1;
const TRUNCATION: u32 = 3;
const PORTS: u32 = 4;
const SCOPE: u32 = 6;

/// What [`probe`](crate::LinuxNs::probe) reports on.
pub(crate) const VERSIONS: [(u32, &str); 4] = [
    (FILES, "files"),
    (TRUNCATION, "writable paths that may only be read"),
    (PORTS, "TCP ports"),
    (SCOPE, "abstract unix sockets"),
];

/// Where commands can write, whatever the root is.
const WRITABLE: [&str; 3] = ["/box", "/tmp", "/dev/shm"];

impl Landlock {
    /// Forbids nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What lies at and below `path` may be read, listed and executed. The path is absolute and must be there
    /// in the sandbox.
    pub fn read(mut self, path: impl Into<String>) -> Self {
        self.paths.push((Access::Read, path.into()));
        self
    }

    /// What lies at and below `path` may also be changed, as far as the sandbox can write there at all.
    pub fn write(mut self, path: impl Into<String>) -> Self {
        self.paths.push((Access::Write, path.into()));
        self
    }

    /// Commands may connect to this TCP port, and to others that are named. Needs version 4.
    pub fn connect(mut self, port: u16) -> Self {
        self.ports.push((Use::Connect, port));
        self
    }

    /// Commands may listen at this TCP port, and at others that are named. Needs version 4.
    pub fn bind(mut self, port: u16) -> Self {
        self.ports.push((Use::Bind, port));
        self
    }

    /// Commands reach no abstract unix socket that was made outside the sandbox, which with a shared network they do
    /// otherwise. Needs version 6.
    pub fn scoped(mut self) -> Self {
        self.scoped = true;
        self
    }

    /// Whether everything asked for can be enforced with what the kernel has.
    pub(crate) fn check(&self, kernel: &Result<u32, String>, root_is_writable: bool) -> Result<(), Error> {
        let impossible = self.paths.iter().find(|(_, path)| !path.starts_with('/') || path.contains('\0'));
        if let Some((_, path)) = impossible {
            let detail = format!("it names `{path}`; give an absolute path inside the sandbox");
            return Err(Error::new(Stage::Landlock, ErrorKind::InvalidSpec, detail));
        }
        let (needed, what) = self.needs(root_is_writable);
        match kernel {
            _ if needed == 0 => Ok(()),
            Err(reason) => Err(Error::new(Stage::Landlock, ErrorKind::Unsupported, reason.clone())),
            Ok(version) if *version < needed => {
                let detail = too_old(*version, needed, what);
                Err(Error::new(Stage::Landlock, ErrorKind::Unsupported, detail))
            }
            Ok(_) => Ok(()),
        }
    }

    /// The first version that enforces all of it, and what needs that one.
    fn needs(&self, root_is_writable: bool) -> (u32, &'static str) {
        let readable = |(access, path): &(Access, String)| {
            *access == Access::Read && (root_is_writable || is_writable(path))
        };
        let all = [
            (!self.paths.is_empty(), FILES, "rules about files"),
            (self.paths.iter().any(readable), TRUNCATION, "a path that is writable and may only be read"),
            (!self.ports.is_empty(), PORTS, "rules about ports"),
            (self.scoped, SCOPE, "a scope"),
        ];
        let needed = all.into_iter().rfind(|(asked, ..)| *asked);
        needed.map_or((0, ""), |(_, version, what)| (version, what))
    }

    /// The ruleset for a kernel that has passed [`check`](Self::check).
    pub(crate) fn encode(&self, kernel: &Result<u32, String>, writer: &mut Writer<'_>) {
        let version = kernel.as_ref().copied().unwrap_or(0);
        let since = |first: u32, bits: u64| if version >= first { bits } else { 0 };
        let known = ALL_OF_VERSION_1 | since(2, LINK_ELSEWHERE) | since(TRUNCATION, TRUNCATE);
        let files = if self.paths.is_empty() { 0 } else { known };
        let ports = if self.ports.is_empty() { 0 } else { BIND_AND_CONNECT };
        let scope = if self.scoped { ABSTRACT_UNIX_AND_SIGNALS } else { 0 };
        writer.u64(files).u64(ports).u64(scope).u32((self.paths.len() + self.ports.len()) as u32);
        for (access, path) in &self.paths {
            let access = if *access == Access::Read { READ } else { known };
            // `check` has refused NUL bytes.
            let path = CString::new(path.as_str()).unwrap_or_default();
            writer.u8(rule::PATH).u64(access).cstr(&path);
        }
        for (access, port) in &self.ports {
            writer.u8(rule::PORT).u64(*access as u64).u16(*port);
        }
    }
}

/// Whether `path` is one of the places where commands can write, lies in one, or has one in it.
fn is_writable(path: &str) -> bool {
    let inside = |path: &str, of: &str| {
        path.strip_prefix(of.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    WRITABLE.iter().any(|place| inside(path, place) || inside(place, path))
}

/// Why something cannot be enforced that needs a newer version, and what to do.
pub(crate) fn too_old(version: u32, needed: u32, what: &str) -> String {
    let kernel = match needed {
        0..=1 => "5.13",
        2 => "5.19",
        3 => "6.2",
        4 => "6.7",
        5 => "6.10",
        _ => "6.12",
    };
    format!("{what} needs version {needed}, and this kernel has version {version}; it needs Linux {kernel}")
}

/// Why there is no Landlock, from the kernel's error number.
pub(crate) fn missing(errno: i32) -> String {
    match errno {
        libc::ENOSYS => {
            "this kernel has no Landlock; it needs 5.13 or newer, with CONFIG_SECURITY_LANDLOCK".into()
        }
        libc::EOPNOTSUPP => {
            "Landlock is switched off; name `landlock` in the kernel's parameter lsm= and start it again"
                .into()
        }
        other => format!("Landlock cannot be used: {}", std::io::Error::from_raw_os_error(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(landlock: &Landlock, kernel: Result<u32, String>) -> String {
        let error = landlock.check(&kernel, false).unwrap_err();
        assert_eq!((error.stage(), error.kind()), (Stage::Landlock, ErrorKind::Unsupported));
        error.to_string()
    }

    #[test]
    fn a_kernel_without_landlock_is_told_with_its_remedy() {
        let rules = Landlock::new().read("/usr");
        assert!(refused(&rules, Err(missing(libc::ENOSYS))).contains("5.13"));
        assert!(refused(&rules, Err(missing(libc::EOPNOTSUPP))).contains("lsm="));
        assert!(Landlock::new().check(&Err(missing(libc::ENOSYS)), false).is_ok(), "nothing was asked for");
    }

    #[test]
    fn nothing_is_left_out_in_silence_on_an_older_kernel() {
        let cases = [
            (Landlock::new().read("/usr").write("/box"), 1),
            (Landlock::new().read("/tmp/x"), 3),
            (Landlock::new().read("/"), 3),
            (Landlock::new().connect(443), 4),
            (Landlock::new().read("/usr").scoped(), 6),
        ];
        for (rules, needed) in cases {
            assert!(rules.check(&Ok(needed), false).is_ok(), "{rules:?}");
            if needed > 1 {
                assert!(refused(&rules, Ok(needed - 1)).contains(&format!("version {needed}")));
            }
        }
        let read_only = Landlock::new().read("/usr");
        assert!(read_only.check(&Ok(2), false).is_ok() && read_only.check(&Ok(2), true).is_err());
    }

    #[test]
    fn a_place_is_writable_with_what_is_in_it_and_around_it() {
        for path in ["/box", "/box/", "/box/a", "/tmp", "/dev", "/dev/shm", "/"] {
            assert!(is_writable(path), "{path}");
        }
        for path in ["/usr", "/boxes", "/tmpx", "/dev/null", "/etc/tmp"] {
            assert!(!is_writable(path), "{path}");
        }
    }

    #[test]
    fn a_path_is_absolute() {
        let error = Landlock::new().read("usr").check(&Ok(7), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
    }
}
