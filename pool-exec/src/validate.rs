//! What is wrong with a [`Command`] before anyone tries it: the same checks on every backend.

use std::collections::HashSet;

use crate::command::{Command, FileIn};
use crate::error::ExecError;
use crate::limit::Limit;

/// Linux takes no single argument or variable longer than 32 pages, its final NUL included.
const MAX_ARGUMENT: usize = 32 * 4096 - 1;
/// Linux takes no path longer than this, its final NUL included.
const MAX_PATH: usize = 4096 - 1;
/// The stack that a program gets where nobody says otherwise.
const DEFAULT_STACK: u64 = 8 << 20;

type Check = Result<(), ExecError>;

impl Command {
    /// Whether the command can be right at all: nothing empty that must not be, no NUL bytes, an absolute
    /// working directory, arguments that fit, no limit that nothing could run under.
    ///
    /// [`Support::check`](crate::Support::check) includes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCommand`](crate::ErrorKind::InvalidCommand) with the first field that is wrong.
    pub fn validate(&self) -> Result<(), ExecError> {
        self.check_argv()?;
        self.check_env()?;
        self.check_total()?;
        self.check_cwd()?;
        self.check_files()?;
        self.check_tty()?;
        self.check_limits()
    }

    fn check_argv(&self) -> Check {
        if self.argv.first().is_none_or(Vec::is_empty) {
            return Err(ExecError::invalid("argv", "names no program; the first argument is the program"));
        }
        self.argv.iter().try_for_each(|argument| check_argument("argv", argument))
    }

    fn check_env(&self) -> Check {
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(&b'=') {
                let message =
                    format!("has a variable named `{}`; a name is not empty and has no `=`", text(name));
                return Err(ExecError::invalid("env", message));
            }
            check_argument("env", name)?;
            check_argument("env", &[name, &b"="[..], value].concat())?;
        }
        Ok(())
    }

    /// The kernel's rule: strings and pointers take at most a quarter of the stack limit, but never less
    /// than 128 KiB nor more than 6 MiB.
    fn check_total(&self) -> Check {
        let argv: usize = self.argv.iter().map(|argument| argument.len() + 1 + 8).sum();
        let env: usize = self.env.iter().map(|(name, value)| name.len() + value.len() + 2 + 8).sum();
        let room = (self.limits.stack.unwrap_or(DEFAULT_STACK) / 4).clamp(128 << 10, 6 << 20);
        if (argv + env) as u64 <= room {
            return Ok(());
        }
        let message = format!(
            "takes {} bytes together with the environment, the kernel allows {room}; pass the rest by stdin \
             or in a file",
            argv + env
        );
        Err(ExecError::invalid("argv", message))
    }

    fn check_cwd(&self) -> Check {
        let Some(cwd) = &self.cwd else { return Ok(()) };
        if !cwd.starts_with(b"/") {
            let message = format!("`{}` is relative; give an absolute path inside", text(cwd));
            return Err(ExecError::invalid("cwd", message));
        }
        check_path("cwd", cwd)
    }

    fn check_files(&self) -> Check {
        let mut seen = HashSet::new();
        for file in &self.files_in {
            check_file_path("files_in", &file.path)?;
            check_mode(file)?;
            if !seen.insert(&file.path) {
                let message = format!("has `{}` twice; give each path once", text(&file.path));
                return Err(ExecError::invalid("files_in", message));
            }
        }
        self.files_out.iter().try_for_each(|file| check_file_path("files_out", &file.path))
    }

    fn check_tty(&self) -> Check {
        match self.tty {
            Some(size) if size.rows == 0 || size.columns == 0 => {
                Err(ExecError::invalid("tty", "has no rows or no columns; 24 by 80 is usual"))
            }
            _ => Ok(()),
        }
    }

    fn check_limits(&self) -> Check {
        let never_zero = [
            (Limit::CpuTime, "limits.cpu_time"),
            (Limit::WallTime, "limits.wall_time"),
            (Limit::Memory, "limits.memory"),
            (Limit::Processes, "limits.processes"),
            (Limit::DiskBytes, "limits.disk_bytes"),
            (Limit::DiskInodes, "limits.disk_inodes"),
            (Limit::OpenFiles, "limits.open_files"),
            (Limit::Stack, "limits.stack"),
            (Limit::CpuSet, "limits.cpu_set"),
            (Limit::CpuBandwidth, "limits.cpu_bandwidth"),
            (Limit::IoBandwidth, "limits.io_bandwidth"),
        ];
        for (limit, field) in never_zero {
            if self.limits.value(limit).is_some_and(|value| value.is_nothing()) {
                return Err(ExecError::invalid(
                    field,
                    "is zero, under which nothing can run; leave it out or give more",
                ));
            }
        }
        Ok(())
    }
}

fn check_argument(field: &'static str, bytes: &[u8]) -> Check {
    check_nul(field, bytes)?;
    if bytes.len() > MAX_ARGUMENT {
        let message = format!(
            "has an entry of {} bytes, the kernel allows {MAX_ARGUMENT}; pass it by stdin or in a file",
            bytes.len()
        );
        return Err(ExecError::invalid(field, message));
    }
    Ok(())
}

fn check_path(field: &'static str, path: &[u8]) -> Check {
    check_nul(field, path)?;
    if path.len() > MAX_PATH {
        let message = format!("has a path of {} bytes, the kernel allows {MAX_PATH}", path.len());
        return Err(ExecError::invalid(field, message));
    }
    Ok(())
}

/// A file's path stays where it says: no `..` leads out of the work directory.
fn check_file_path(field: &'static str, path: &[u8]) -> Check {
    check_path(field, path)?;
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if last.is_empty() || last == b"." {
        let message = format!("has `{}`, which names no file", text(path));
        return Err(ExecError::invalid(field, message));
    }
    if path.split(|byte| *byte == b'/').any(|part| part == b"..") {
        let message = format!("has `{}` with a `..`; give the path without", text(path));
        return Err(ExecError::invalid(field, message));
    }
    Ok(())
}

fn check_mode(file: &FileIn) -> Check {
    if file.mode <= 0o777 {
        return Ok(());
    }
    let message = format!("gives `{}` the mode {:o}; at most 777 is allowed", text(&file.path), file.mode);
    Err(ExecError::invalid("files_in", message))
}

fn check_nul(field: &'static str, bytes: &[u8]) -> Check {
    if !bytes.contains(&0) {
        return Ok(());
    }
    let message =
        format!("`{}` contains a NUL byte, which the kernel takes for its end; remove it", text(bytes));
    Err(ExecError::invalid(field, message))
}

/// As much of `bytes` as a message can hold.
fn text(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(64)];
    let dots = if shown.len() < bytes.len() { "..." } else { "" };
    format!("{}{dots}", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;
    use crate::limits::Limits;

    fn wrong_field(command: Command) -> &'static str {
        match command.validate().unwrap_err().kind() {
            ErrorKind::InvalidCommand { field } => field,
            other => panic!("{other:?}"),
        }
    }

    fn limited(limits: Limits) -> Command {
        Command::new("a").limits(limits)
    }

    #[test]
    fn a_plain_command_is_valid() {
        let command =
            Command::new("a").arg("").env("A", "").cwd("/").file_in("b", "", 0o755).file_out("/c/d", 0);
        command.validate().unwrap();
    }

    #[test]
    fn a_command_without_a_program_is_refused() {
        let mut empty = Command::new("");
        assert_eq!(wrong_field(empty.clone()), "argv");
        empty.argv.clear();
        assert_eq!(wrong_field(empty), "argv");
    }

    #[test]
    fn nul_bytes_are_refused_wherever_they_are() {
        assert_eq!(wrong_field(Command::new("a\0")), "argv");
        assert_eq!(wrong_field(Command::new("a").arg("b\0c")), "argv");
        assert_eq!(wrong_field(Command::new("a").env("b\0", "c")), "env");
        assert_eq!(wrong_field(Command::new("a").env("b", "c\0")), "env");
        assert_eq!(wrong_field(Command::new("a").cwd("/\0")), "cwd");
        assert_eq!(wrong_field(Command::new("a").file_in("b\0", "", 0o644)), "files_in");
        assert_eq!(wrong_field(Command::new("a").file_out("b\0", 1)), "files_out");
    }

    #[test]
    fn a_variable_needs_a_name_without_an_equals_sign() {
        assert_eq!(wrong_field(Command::new("a").env("", "b")), "env");
        assert_eq!(wrong_field(Command::new("a").env("b=c", "d")), "env");
        Command::new("a").env("b", "c=d").validate().unwrap();
    }

    #[test]
    fn a_relative_working_directory_is_refused() {
        assert_eq!(wrong_field(Command::new("a").cwd("b")), "cwd");
        assert_eq!(wrong_field(Command::new("a").cwd("")), "cwd");
        assert_eq!(wrong_field(Command::new("a").cwd("/b".repeat(2048))), "cwd");
    }

    #[test]
    fn arguments_that_the_kernel_would_not_take_are_refused() {
        Command::new("a").arg("b".repeat(MAX_ARGUMENT)).validate().unwrap();
        assert_eq!(wrong_field(Command::new("a").arg("b".repeat(MAX_ARGUMENT + 1))), "argv");
        assert_eq!(wrong_field(Command::new("a").env("b", "c".repeat(MAX_ARGUMENT - 1))), "env");
        let many = Command::new("a").args(vec!["b".repeat(100_000); 21]);
        assert_eq!(wrong_field(many.clone()), "argv");
        many.limits(Limits::new().stack(16 << 20)).validate().unwrap();
    }

    #[test]
    fn a_small_stack_leaves_less_room_for_arguments() {
        let command = Command::new("a").args(["b".repeat(100_000), "c".repeat(100_000)]);
        command.validate().unwrap();
        assert_eq!(wrong_field(command.limits(Limits::new().stack(64 << 10))), "argv");
    }

    #[test]
    fn a_file_needs_a_path_that_stays_where_it_says() {
        for path in ["", "b/", "/", ".", "b/.", "../b", "b/../../c", "/.."] {
            assert_eq!(wrong_field(Command::new("a").file_in(path, "", 0o644)), "files_in", "{path}");
            assert_eq!(wrong_field(Command::new("a").file_out(path, 1)), "files_out", "{path}");
        }
        Command::new("a").file_in("..b/c..", "", 0o644).validate().unwrap();
    }

    #[test]
    fn two_files_of_one_path_and_special_modes_are_refused() {
        let once = Command::new("a").file_in("b", "", 0o644);
        assert_eq!(wrong_field(once.file_in("b", "", 0o644)), "files_in");
        assert_eq!(wrong_field(Command::new("a").file_in("b", "", 0o4755)), "files_in");
    }

    #[test]
    fn a_limit_under_which_nothing_can_run_is_refused_by_name() {
        assert_eq!(wrong_field(limited(Limits::new().cpu_time(Duration::ZERO))), "limits.cpu_time");
        assert_eq!(wrong_field(limited(Limits::new().wall_time(Duration::ZERO))), "limits.wall_time");
        assert_eq!(wrong_field(limited(Limits::new().memory(0))), "limits.memory");
        assert_eq!(wrong_field(limited(Limits::new().processes(0))), "limits.processes");
        assert_eq!(wrong_field(limited(Limits::new().disk_bytes(0))), "limits.disk_bytes");
        assert_eq!(wrong_field(limited(Limits::new().disk_inodes(0))), "limits.disk_inodes");
        assert_eq!(wrong_field(limited(Limits::new().open_files(0))), "limits.open_files");
        assert_eq!(wrong_field(limited(Limits::new().stack(0))), "limits.stack");
        assert_eq!(wrong_field(limited(Limits::new().cpu_set([]))), "limits.cpu_set");
        assert_eq!(wrong_field(limited(Limits::new().cpu_bandwidth(0))), "limits.cpu_bandwidth");
        assert_eq!(wrong_field(limited(Limits::new().io_bandwidth(0))), "limits.io_bandwidth");
    }

    #[test]
    fn a_limit_whose_zero_means_something_may_be_zero() {
        limited(Limits::new().swap(0).output(0).file_size(0)).validate().unwrap();
    }

    #[test]
    fn a_terminal_has_a_size() {
        assert_eq!(wrong_field(Command::new("a").tty(0, 80)), "tty");
        assert_eq!(wrong_field(Command::new("a").tty(24, 0)), "tty");
    }
}
