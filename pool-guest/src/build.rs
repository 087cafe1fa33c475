//! Compiles guest programs, from a build script.
//!
//! ```no_run
//! // build.rs
//! poolyard_guest::build::Program::new("helper", "helper").build();
//! ```
//!
//! The guest is compiled by calling the build's own `rustc` directly, so the user's `RUSTFLAGS`
//! (sanitizers, coverage, `target-cpu`) do not reach it: a guest without a C library could not
//! carry them. It links statically and without start files: with the linker that cargo was told to
//! use, else with `cc`, else, for another architecture than the compiler's, with the linker that
//! comes with `rustc` (`rust-lld`), which needs no cross compiler.
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
//! that repeats the reason. [`Program::build_each`] makes one for every architecture.

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

    /// Compiles it into `$OUT_DIR/<name>`, for the target of this build.
    ///
    /// # Panics
    ///
    /// If the compiler or the linker fails; the message holds what they said. A panic is how a
    /// build script reports an error.
    pub fn build(self) {
        self.announce();
        let image = self.image(&Target::of_this_build(), &self.name);
        self.tell("MISSING", &image.err().unwrap_or_default());
    }

    /// Compiles it for every architecture, into `$OUT_DIR/<name>-<architecture>`: for hosts that
    /// give it to machines of another one. One that is not this build's needs rustc's target for it
    /// (`rustup target add`); without, its image is empty and
    /// `POOLYARD_GUEST_<NAME>_MISSING_<ARCHITECTURE>` says so.
    ///
    /// # Panics
    ///
    /// As [`build`](Program::build), for this build's own architecture.
    pub fn build_each(self) {
        self.announce();
        watch_installed_targets();
        for architecture in ARCHITECTURES {
            let name = format!("{}-{architecture}", self.name);
            let image = Target::of(architecture).and_then(|target| self.image(&target, &name));
            if image.is_err() {
                write(&out_dir().join(name), "");
            }
            let what = format!("MISSING_{}", architecture.to_uppercase());
            self.tell(&what, &image.err().unwrap_or_default());
        }
    }

    fn announce(&self) {
        println!("cargo::rerun-if-changed={}", self.folder.display());
        println!("cargo::rerun-if-env-changed=DOCS_RS");
        self.tell("ID", &self.build_id());
    }

    /// The program as a file of this name; or why there is none, and an empty file.
    fn image(&self, target: &Target, name: &str) -> Result<(), String> {
        let result = match missing(target) {
            Some(reason) => Err(reason),
            None => self.compile(target, name),
        };
        if let Err(reason) = &result {
            // What was asked for must not go missing because of a broken tool.
            assert!(!target.is_builds || missing(target).is_some(), "{reason}");
            write(&out_dir().join(name), "");
        }
        result.map_err(|reason| one_line(&reason))
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

    fn compile(&self, target: &Target, name: &str) -> Result<(), String> {
        let runtime = out_dir().join(format!("{name}-guest"));
        for folder in ["rt", "src"] {
            fs::create_dir_all(runtime.join(folder)).expect("cannot write to OUT_DIR");
        }
        for (name, text) in RUNTIME {
            write(&runtime.join(name), text);
        }
        let library = runtime.join("libpoolyard_rt.rlib");
        let mut rt = rustc(target);
        rt.args(["--crate-name", "poolyard_rt", "--crate-type", "rlib", "-o"]).arg(&library);
        run(rt.arg(runtime.join("rt/lib.rs")))?;

        let mut program = rustc(target);
        program.args(["--crate-type", "bin", "--crate-name", &self.name.replace('-', "_")]);
        program.arg("--extern").arg(assignment("poolyard_rt", &library));
        program.arg("-o").arg(out_dir().join(name)).env("POOLYARD_BUILD_ID", self.build_id());
        link_flags(&mut program, target);
        run(program.arg(self.folder.join("main.rs")))
    }
}

/// What a guest is compiled for.
struct Target {
    triple: String,
    architecture: String,
    /// Whether it is what cargo builds everything else for.
    is_builds: bool,
}

impl Target {
    fn of_this_build() -> Target {
        Target { triple: text("TARGET"), architecture: text("CARGO_CFG_TARGET_ARCH"), is_builds: true }
    }

    /// The build's own for its architecture; for another one, whichever of rustc's is installed.
    fn of(architecture: &str) -> Result<Target, String> {
        let builds = Target::of_this_build();
        if builds.architecture == architecture {
            return Ok(builds);
        }
        let triples = ["gnu", "musl"].map(|library| format!("{architecture}-unknown-linux-{library}"));
        let advice = format!("rustup target add {} before building adds it", triples[0]);
        let triple = triples.into_iter().find(|triple| is_installed(triple)).ok_or(advice)?;
        Ok(Target { triple, architecture: architecture.into(), is_builds: false })
    }

    /// Whether this machine's own tools make programs for it.
    fn is_native(&self) -> bool {
        let host = text("HOST");
        host.starts_with(&format!("{}-", self.architecture)) && host.contains("linux")
    }
}

fn is_installed(triple: &str) -> bool {
    print(&["target-libdir", "--target", triple]).is_some_and(|path| Path::new(&path).is_dir())
}

/// So that a target that is added later is noticed.
fn watch_installed_targets() {
    let list = sysroot().join("lib/rustlib/components");
    // Cargo takes a file that does not exist for one that has just changed.
    if list.exists() {
        println!("cargo::rerun-if-changed={}", list.display());
    }
}

fn sysroot() -> PathBuf {
    print(&["sysroot"]).unwrap_or_default().into()
}

/// What `rustc --print` says of something.
fn print(what: &[&str]) -> Option<String> {
    let output = Command::new(variable("RUSTC")).arg("--print").args(what).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Why no guest can be built for this, if so.
fn missing(target: &Target) -> Option<String> {
    if env::var_os("DOCS_RS").is_some() {
        return Some("this is a documentation build".into());
    }
    let os = text("CARGO_CFG_TARGET_OS");
    if os != "linux" {
        return Some(format!("it needs Linux, and this was built for {os}"));
    }
    if !ARCHITECTURES.contains(&target.architecture.as_str()) {
        return Some(format!("it has no system-call shim for {}", target.architecture));
    }
    None
}

/// The flags that both crates of a guest are compiled with.
fn rustc(target: &Target) -> Command {
    let mut command = Command::new(variable("RUSTC"));
    command.args(["--edition", "2024", "--target", &target.triple]);
    for flag in ["panic=abort", "opt-level=s", "codegen-units=1", "strip=symbols", "relocation-model=static"]
    {
        command.args(["-C", flag]);
    }
    // Frame pointers, stack protectors and the like may come from the environment of a wrapper;
    // debug assertions would bring the formatting machinery into a program of a few KiB.
    command.args(["-C", "debug-assertions=off", "-C", "overflow-checks=off"]);
    for (from, to) in [(variable("OUT_DIR"), "/guest"), (variable("CARGO_MANIFEST_DIR"), "/src")] {
        command.arg("--remap-path-prefix").arg(assignment(from, to));
    }
    command.args(["--cap-lints", "warn"]);
    command
}

fn link_flags(command: &mut Command, target: &Target) {
    command.args(["-C", "lto=fat", "-C", "target-feature=+crt-static", "-C", "default-linker-libraries=no"]);
    // On musl targets rustc would bring its own start files.
    if target.triple.contains("musl") {
        command.args(["-C", "link-self-contained=no"]);
    }
    let linker = Linker::choose(target);
    if let Some(program) = linker.program {
        command.arg("-C").arg(assignment("linker", program));
    }
    let flags: &[&str] = match linker.is_driver {
        true => &[
            "-nostartfiles",
            "-nostdlib",
            "-static",
            "-Wl,--gc-sections,--build-id=none,-z,noexecstack,-z,norelro",
        ],
        false => {
            command.args(["-C", "linker-flavor=ld.lld"]);
            &["-static", "--gc-sections", "--build-id=none", "-z", "noexecstack", "-z", "norelro"]
        }
    };
    for flag in flags {
        command.arg("-C").arg(assignment("link-arg", flag));
    }
}

/// Who puts the objects together.
struct Linker {
    /// `None`: the one that rustc takes by itself.
    program: Option<OsString>,
    /// A C compiler, which passes flags on, or the linker itself.
    is_driver: bool,
}

impl Linker {
    fn choose(target: &Target) -> Linker {
        if let Some(program) = env::var_os("RUSTC_LINKER").filter(|_| target.is_builds) {
            return Linker { is_driver: !is_bare_linker(&program), program: Some(program) };
        }
        if target.is_native() {
            return Linker { program: None, is_driver: true };
        }
        let with_rustc = sysroot().join("lib/rustlib").join(variable("HOST")).join("bin/rust-lld");
        let program = if with_rustc.exists() { with_rustc.into() } else { "ld.lld".into() };
        Linker { program: Some(program), is_driver: false }
    }
}

/// `ld.lld`, `rust-lld`, `aarch64-linux-gnu-ld`; a compiler has another name.
fn is_bare_linker(program: &OsString) -> bool {
    let name = Path::new(program).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    name.ends_with("lld") || name == "ld" || name.ends_with("-ld")
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().expect("cannot start rustc");
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("a guest program did not compile:\n{said}\ncommand: {command:?}"));
    }
    let lines: Vec<&str> = said.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("warning")) {
        println!("cargo::warning=guest: {}{}", pair[0], pair[1]);
    }
    Ok(())
}

/// What fits into a variable of the compiler: the first lines of a message.
fn one_line(text: &str) -> String {
    text.lines().take(3).collect::<Vec<_>>().join(" ")
}

fn assignment(name: impl Into<OsString>, value: impl AsRef<std::ffi::OsStr>) -> OsString {
    let mut text = name.into();
    text.push("=");
    text.push(value);
    text
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("cannot write to OUT_DIR");
}

fn out_dir() -> PathBuf {
    variable("OUT_DIR").into()
}

fn text(name: &str) -> String {
    variable(name).to_string_lossy().into_owned()
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
