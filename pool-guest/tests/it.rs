//! Builds a guest as a build script would, and talks to it.

#![allow(missing_docs)]
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use poolyard_guest::build::Program;
use poolyard_guest::spawn::{Image, spawn};

/// What cargo tells a build script. One test only may call it: the environment is the process's.
#[allow(unsafe_code)]
fn pretend_to_be_a_build_script(out: &Path) {
    let rustc = std::env::var("RUSTC").unwrap_or("rustc".into());
    let version = Command::new(&rustc).arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let set = |name: &str, value: &str| {
        // SAFETY: this program has one test, so no other thread reads the environment.
        unsafe { std::env::set_var(name, value) }
    };
    set("RUSTC", &rustc);
    set("TARGET", host);
    set("HOST", host);
    set("OUT_DIR", out.to_str().unwrap());
    set("CARGO_CFG_TARGET_OS", "linux");
    set("CARGO_CFG_TARGET_ARCH", std::env::consts::ARCH);
    set("CARGO_CFG_TARGET_ENV", "gnu");
}

fn wait_for(pid: i32) -> i32 {
    let mut status = 0;
    #[allow(unsafe_code)]
    // SAFETY: waits for our own child.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(reaped, pid);
    status
}

/// Builds it for all architectures; says which of them got one.
fn built_for_each(out: &Path) -> Vec<u16> {
    Program::new("echo", "tests/guests/echo").build_each();
    let images = ["x86_64", "aarch64"].map(|name| std::fs::read(out.join(format!("echo-{name}"))).unwrap());
    let machine = |image: &Vec<u8>| (!image.is_empty()).then(|| u16::from_le_bytes([image[18], image[19]]));
    images.iter().filter_map(machine).collect()
}

#[test]
fn a_built_guest_starts_from_memory_with_exactly_its_descriptors() {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guest");
    std::fs::create_dir_all(&out).unwrap();
    pretend_to_be_a_build_script(&out);
    Program::new("echo", "tests/guests/echo").build();
    let image = Image::new(&std::fs::read(out.join("echo")).unwrap()).unwrap();

    let (x86_64, aarch64) = (62, 183);
    let built = built_for_each(&out);
    assert!(built.contains(if cfg!(target_arch = "x86_64") { &x86_64 } else { &aarch64 }), "{built:?}");
    assert!(built.iter().all(|machine| [x86_64, aarch64].contains(machine)), "{built:?}");

    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let guest = spawn(&image, c"echo", &[theirs.as_fd()]).unwrap();
    drop(theirs);
    ours.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    ours.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");

    let mut open: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", guest.pid))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2", "3"]);
    let environ = std::fs::read(format!("/proc/{}/environ", guest.pid)).unwrap();
    assert!(environ.is_empty(), "the guest sees the host's environment");

    drop(ours);
    assert_eq!(wait_for(guest.pid), 0, "the guest ends when its socket closes");
    assert!(Image::new(b"").is_err(), "a build without a guest says so");
}
