//! Compiles guest programs, from a build script.
//!
//! ```no_run
//! // build.rs
//! poolyard_guest::build::Program::new("helper", "helper").build();
//! ```
//!
//! The guest is compiled by calling the build's own `rustc` directly, so the user's `RUSTFLAGS`
//! (sanitizers, coverage, `target-cpu`) do not reach it: a guest without a C library could not
//! carry them. It links with the target's linker, statically and without start files.
//!
//! The host crate embeds the result:
//!
//! ```ignore
//! static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/helper"));
//! const BUILD_ID: u64 = ..; // from env!("POOLYARD_GUEST_HELPER_ID")
//! ```
//!
//! On documentation builds, on other systems than Linux and on architectures without a system-call
//! shim the image is empty and `POOLYARD_GUEST_<NAME>_MISSING` says why; starting it is an error
//! that repeats the reason.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The sources of the crate `poolyard_rt`, which every guest links. They travel inside this
/// library, so that a packaged crate can build its guests.
const RUNTIME: [(&str, &str); 6] = [
    ("rt/lib.rs", include_str!("../rt/lib.rs")),
    ("rt/arch.rs", include_str!("../rt/arch.rs")),
    ("rt/mem.rs", include_str!("../rt/mem.rs")),
    ("rt/sys.rs", include_str!("../rt/sys.rs")),
    ("rt/socket.rs", include_str!("../rt/socket.rs")),
    ("src/frame.rs", include_str!("frame.rs")),
];

/// Architectures that `rt/arch.rs` knows.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// A guest program: a folder whose `main.rs` is its root.
#[derive(Debug)]
pub struct Program {
    name: String,
    folder: PathBuf,
}

impl Program {
    /// The guest `name`, whose sources lie in `folder`, relative to the crate. The folder must
    /// hold no `Cargo.toml`: cargo would leave it out of the packaged crate.
    pub fn new(name: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), folder: folder.into() }
    }

    /// Compiles it into `$OUT_DIR/<name>`.
    ///
    /// # Panics
    ///
    /// If the compiler or the linker fails; the message holds what they said. A panic is how a
    /// build script reports an error.
    pub fn build(self) {
        println!("cargo::rerun-if-changed={}", self.folder.display());
        println!("cargo::rerun-if-env-changed=DOCS_RS");
        let out = PathBuf::from(variable("OUT_DIR"));
        let id = self.build_id();
        self.tell("ID", &id);
        match missing() {
            Some(reason) => {
                self.tell("MISSING", &reason);
                fs::write(out.join(&self.name), b"").expect("cannot write to OUT_DIR");
            }
            None => {
                self.tell("MISSING", "");
                self.compile(&out, &id);
            }
        }
    }

    fn tell(&self, what: &str, value: &str) {
        println!("cargo::rustc-env=POOLYARD_GUEST_{}_{what}={value}", self.name.to_uppercase());
    }

    /// A hash of everything that goes into the program: a host and a guest with the same id were
    /// built from the same protocol.
    fn build_id(&self) -> String {
        let mut hash = Fnv::new();
        for (name, text) in RUNTIME {
            hash.eat(name.as_bytes());
            hash.eat(text.as_bytes());
        }
        for file in sources(&self.folder) {
            hash.eat(file.to_string_lossy().as_bytes());
            hash.eat(&fs::read(&file).expect("cannot read a guest's source"));
        }
        hash.eat(variable("TARGET").to_string_lossy().as_bytes());
        format!("{:016x}", hash.0)
    }

    fn compile(&self, out: &Path, id: &str) {
        let runtime = out.join(format!("{}-guest", self.name));
        for folder in ["rt", "src"] {
            fs::create_dir_all(runtime.join(folder)).expect("cannot write to OUT_DIR");
        }
        for (name, text) in RUNTIME {
            fs::write(runtime.join(name), text).expect("cannot write to OUT_DIR");
        }
        let library = runtime.join("libpoolyard_rt.rlib");
        let mut rt = rustc(out);
        rt.args(["--crate-name", "poolyard_rt", "--crate-type", "rlib", "-o"]).arg(&library);
        run(rt.arg(runtime.join("rt/lib.rs")));

        let mut program = rustc(out);
        program.args(["--crate-type", "bin", "--crate-name", &self.name.replace('-', "_")]);
        program.arg("--extern").arg(assignment("poolyard_rt", &library));
        program.arg("-o").arg(out.join(&self.name)).env("POOLYARD_BUILD_ID", id);
        link_flags(&mut program);
        run(program.arg(self.folder.join("main.rs")));
    }
}

/// Why no guest can be built here, if so.
fn missing() -> Option<String> {
    let text = |name| variable(name).to_string_lossy().into_owned();
    if env::var_os("DOCS_RS").is_some() {
        return Some("this is a documentation build".into());
    }
    let (os, arch) = (text("CARGO_CFG_TARGET_OS"), text("CARGO_CFG_TARGET_ARCH"));
    if os != "linux" {
        return Some(format!("it needs Linux, and this was built for {os}"));
    }
    if !ARCHITECTURES.contains(&arch.as_str()) {
        return Some(format!("it has no system-call shim for {arch}"));
    }
    None
}

/// The flags that both crates of a guest are compiled with.
fn rustc(out: &Path) -> Command {
    let mut command = Command::new(variable("RUSTC"));
    command.args(["--edition", "2024", "--target"]).arg(variable("TARGET"));
    for flag in ["panic=abort", "opt-level=s", "codegen-units=1", "strip=symbols", "relocation-model=static"]
    {
        command.args(["-C", flag]);
    }
    // Frame pointers, stack protectors and the like may come from the environment of a wrapper;
    // debug assertions would bring the formatting machinery into a program of a few KiB.
    command.args(["-C", "debug-assertions=off", "-C", "overflow-checks=off"]);
    for (from, to) in [(out.as_os_str().to_owned(), "/guest"), (variable("CARGO_MANIFEST_DIR"), "/src")] {
        command.arg("--remap-path-prefix").arg(assignment(from, to));
    }
    command.args(["--cap-lints", "warn"]);
    command
}

fn link_flags(command: &mut Command) {
    command.args(["-C", "lto=fat", "-C", "target-feature=+crt-static", "-C", "default-linker-libraries=no"]);
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-Wl,--gc-sections,--build-id=none,-z,noexecstack,-z,norelro",
    ] {
        command.arg("-C").arg(format!("link-arg={argument}"));
    }
    // On musl targets rustc would bring its own start files.
    if variable("CARGO_CFG_TARGET_ENV") == "musl" {
        command.args(["-C", "link-self-contained=no"]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        command.arg("-C").arg(assignment("linker", linker));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("cannot start rustc");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "a guest program did not compile:\n{said}\ncommand: {command:?}");
    let lines: Vec<&str> = said.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("warning")) {
        println!("cargo::warning=guest: {}{}", pair[0], pair[1]);
    }
}

fn assignment(name: impl Into<OsString>, value: impl AsRef<std::ffi::OsStr>) -> OsString {
    let mut text = name.into();
    text.push("=");
    text.push(value);
    text
}

/// All files below `folder`, in a fixed order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).expect("cannot read the guest's folder");
    for path in entries.map(|entry| entry.expect("cannot read the guest's folder").path()) {
        if path.is_dir() { found.extend(sources(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A variable that cargo sets for every build script.
fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_default()
}

/// FNV-1a, 64 bits: enough to tell two builds apart, and no dependency.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn eat(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().chain(&[0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}
