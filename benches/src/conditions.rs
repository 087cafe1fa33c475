//! Under which conditions the figures were made.

use std::fs;
use std::process::Command;

use crate::row::{CONDITIONS, Row};

/// The row with which every report begins.
pub fn row(profile: &str) -> Row {
    Row::new("", CONDITIONS, "", &[], describe(profile))
}

fn describe(profile: &str) -> String {
    let uname = rustix::system::uname();
    let kernel = uname.release().to_string_lossy();
    let rustc = output("rustc", &["--version"]);
    let commit = output("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let allowed = line("/proc/self/status", "Cpus_allowed_list:");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let model = line("/proc/cpuinfo", "model name");
    format!(
        "{model}; {cores} cores, may run on {allowed}; Linux {kernel}; {rustc}; commit {commit}; \
         load before {load}; {profile}"
    )
}

/// What stands behind `name` in a file of lines.
fn line(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or("unknown").trim_matches([' ', '\t', ':']).to_owned()
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).unwrap_or("unknown".into())
}
