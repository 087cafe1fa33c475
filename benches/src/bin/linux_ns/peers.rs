//! Other sandboxes: one command for each run, as their manuals say, and a crate.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::measure::Line;
use crate::programs::{Program, Programs};

pub(crate) fn lines<'a>(bench: &str, programs: &'a Programs, program: Program) -> Vec<Line<'a>> {
    vec![
        command(bench, "bubblewrap", 10, bubblewrap(programs, program)),
        command(bench, "unshare", 10, unshare(programs, program)),
        hakoniwa(bench, programs, program),
        command(bench, "firejail", 2, firejail(programs, program)),
        match runc(programs, program) {
            Ok(runc) => command(bench, "runc", 2, runc).note("pinned, with an ordinary priority"),
            Err(why) => Line::missing(bench, "runc", why),
        },
    ]
}

/// Runs the command once to see whether it works, and then as an operation.
fn command<'a>(bench: &str, name: &'static str, count: u32, mut command: Command) -> Line<'a> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    match command.output() {
        Err(e) => return Line::missing(bench, name, format!("{:?}: {e}", command.get_program())),
        Ok(output) if !output.status.success() => {
            return Line::missing(bench, name, String::from_utf8_lossy(&output.stderr));
        }
        Ok(_) => {}
    }
    command.stderr(Stdio::null());
    let operation = move || {
        let started = Instant::now();
        match command.status() {
            Ok(status) if status.success() => Ok(started.elapsed()),
            other => Err(format!("{other:?}")),
        }
    };
    Line::new(bench, name, count, Box::new(operation))
}

fn bubblewrap(programs: &Programs, program: Program) -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr"]);
    command.args(["--symlink", "usr/lib64", "/lib64", "--symlink", "usr/lib", "/lib"]);
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--ro-bind"]).arg(&programs.dir);
    command.args(["/bench", program.inside()]);
    command
}

fn unshare(programs: &Programs, program: Program) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-m", "-p", "-i", "-u", "-n", "-C", "--fork", "--mount-proc"]).arg(programs.path(program));
    command
}

fn firejail(programs: &Programs, program: Program) -> Command {
    let mut command = Command::new("firejail");
    command.args(["--quiet", "--noprofile", "--net=none"]).arg(programs.path(program));
    command
}

fn hakoniwa<'a>(bench: &str, programs: &'a Programs, program: Program) -> Line<'a> {
    let mut container = hakoniwa::Container::new();
    let prepared = container.rootfs("/").map(drop);
    if let Err(why) = prepared {
        return Line::missing(bench, "hakoniwa", why.to_string());
    }
    container.bindmount_ro(&programs.dir.display().to_string(), "/bench");
    container.unshare(hakoniwa::Namespace::Network).devfsmount("/dev").tmpfsmount("/tmp");
    let operation = move || {
        let started = Instant::now();
        let mut command = container.command(program.inside());
        let status = command.status();
        match status {
            Ok(status) if status.success() => Ok(started.elapsed()),
            other => Err(format!("{other:?}")),
        }
    };
    Line::new(bench, "hakoniwa", 10, Box::new(operation))
}

/// A bundle of runc's own default profile around a root that holds the two programs.
fn runc(programs: &Programs, program: Program) -> Result<Command, String> {
    let bundle = programs.dir.join(format!("runc-{}", program.name()));
    let failed = |e: std::io::Error| format!("runc: {e}");
    std::fs::create_dir_all(bundle.join("rootfs")).map_err(failed)?;
    for dir in ["usr", "bench", "lib64", "lib"] {
        std::fs::create_dir_all(bundle.join("rootfs").join(dir)).map_err(failed)?;
    }
    let made = Command::new("runc").arg("spec").current_dir(&bundle).output().map_err(failed)?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned());
    }
    let file = bundle.join("config.json");
    let text = std::fs::read_to_string(&file).map_err(failed)?;
    let mut config: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    config["process"]["args"] = serde_json::json!([program.inside()]);
    config["process"]["terminal"] = false.into();
    let shown: [(PathBuf, &str); 4] = [
        ("/usr".into(), "/usr"),
        ("/usr/lib64".into(), "/lib64"),
        ("/usr/lib".into(), "/lib"),
        (programs.dir.clone(), "/bench"),
    ];
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.extend(shown.map(|(source, destination)| {
            serde_json::json!({"source": source, "destination": destination, "type": "bind", "options": ["bind", "ro"]})
        }));
    }
    std::fs::write(&file, config.to_string()).map_err(failed)?;
    // Without the real-time priority: version 1 takes no such process into its cpu cgroup.
    let mut command = Command::new("chrt");
    command
        .args(["-o", "0", "runc", "run"])
        .arg("--bundle")
        .arg(&bundle)
        .arg(format!("poolyard-bench-{}", std::process::id()));
    Ok(command)
}
