//! [`Command`]: what to run.

use std::sync::Arc;

use crate::limits::Limits;
use crate::support::Feature;

/// Where a program without a slash is searched when the command sets no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many bytes of each output stream are kept when [`Command::capture`] does not say: 16 MiB.
pub const DEFAULT_CAPTURE: u64 = 16 << 20;

/// What to run: program and arguments, environment, directory, input, files, limits.
///
/// A plain value: it can be kept, cloned, and run many times on many executors. Arguments, variables and
/// paths are bytes, since that is what Linux passes on; strings of any kind are accepted.
///
/// ```
/// use poolyard_exec::Command;
///
/// let command = Command::new("sort").arg("-r").env("LC_ALL", "C").stdin_bytes("b\na\n");
/// assert_eq!(command.argv, [b"sort".to_vec(), b"-r".to_vec()]);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<Vec<u8>>,
    /// Variables, in the order they were set; the last of one name counts.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the variables are put on top of the resource's own.
    pub inherit_env: bool,
    /// Where the program starts; `None` is [`Support::work_dir`](crate::Support::work_dir).
    pub cwd: Option<Vec<u8>>,
    /// What the program reads.
    pub stdin: Stdin,
    /// Files that are there when the program starts.
    pub files_in: Vec<FileIn>,
    /// Files that are collected after its end.
    pub files_out: Vec<FileOut>,
    /// How much it may use.
    pub limits: Limits,
    /// Bytes of each output stream that the outcome keeps; the rest is read and dropped.
    pub capture: u64,
    /// A terminal of this size instead of pipes.
    pub tty: Option<TtySize>,
}

/// What a program reads from standard input.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Stdin {
    /// Nothing: end of file at once.
    #[default]
    Empty,
    /// These bytes, then end of file.
    Bytes(Arc<[u8]>),
    /// What is written to [`Process::take_stdin`](crate::Process::take_stdin), or read from the stream given
    /// to [`Exec::exec_with_stdin`](crate::Exec::exec_with_stdin).
    Piped,
}

/// A file that is there when the program starts. Missing directories above it are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileIn {
    /// Absolute, or relative to the work directory.
    pub path: Vec<u8>,
    /// The whole content.
    pub bytes: Arc<[u8]>,
    /// Permission bits, at most `0o777`.
    pub mode: u32,
}

/// A file that is collected after the program's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileOut {
    /// Absolute, or relative to the work directory.
    pub path: Vec<u8>,
    /// At most this many bytes are collected.
    pub max_bytes: u64,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TtySize {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

impl Command {
    /// Runs `program` with no arguments, an empty environment, no input and no limits.
    ///
    /// A program with a slash is a path, relative ones from the working directory. One without is searched
    /// in the command's own `PATH` if it sets one, otherwise in [`DEFAULT_PATH`].
    pub fn new(program: impl AsRef<[u8]>) -> Self {
        Self {
            argv: vec![program.as_ref().to_vec()],
            env: Vec::new(),
            inherit_env: false,
            cwd: None,
            stdin: Stdin::Empty,
            files_in: Vec::new(),
            files_out: Vec::new(),
            limits: Limits::new(),
            capture: DEFAULT_CAPTURE,
            tty: None,
        }
    }

    /// Runs `script` with `/bin/sh -c`.
    pub fn shell(script: impl AsRef<[u8]>) -> Self {
        Self::new("/bin/sh").arg("-c").arg(script)
    }

    /// Adds one argument.
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.argv.push(argument.as_ref().to_vec());
        self
    }

    /// Adds several arguments.
    pub fn args<A: AsRef<[u8]>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(arguments.into_iter().map(|argument| argument.as_ref().to_vec()));
        self
    }

    /// Sets a variable. Nothing else is in the environment, unless [`inherit_env`](Self::inherit_env).
    pub fn env(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.env.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Sets several variables.
    pub fn envs<N: AsRef<[u8]>, V: AsRef<[u8]>>(self, envs: impl IntoIterator<Item = (N, V)>) -> Self {
        envs.into_iter().fold(self, |command, (name, value)| command.env(name, value))
    }

    /// Sets a variable to the value that it has in this process now; leaves it out if it has none.
    pub fn env_from_host(self, name: &str) -> Self {
        match std::env::var_os(name) {
            Some(value) => self.env(name, value.as_encoded_bytes()),
            None => self,
        }
    }

    /// Puts the variables on top of the resource's own environment, for example the image's. Refused where
    /// there is none ([`Feature::InheritEnv`]).
    pub fn inherit_env(mut self) -> Self {
        self.inherit_env = true;
        self
    }

    /// Starts in this directory: an absolute path inside.
    pub fn cwd(mut self, directory: impl AsRef<[u8]>) -> Self {
        self.cwd = Some(directory.as_ref().to_vec());
        self
    }

    /// The program reads these bytes, then end of file. A program that does not read them all is no error.
    pub fn stdin_bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = Stdin::Bytes(bytes.as_ref().into());
        self
    }

    /// The program reads what the caller writes while it runs. For [`Exec::spawn`](crate::Exec::spawn).
    pub fn stdin_piped(mut self) -> Self {
        self.stdin = Stdin::Piped;
        self
    }

    /// Puts a file in place before the program starts; replaces one that is there.
    pub fn file_in(mut self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>, mode: u32) -> Self {
        self.files_in.push(FileIn { path: path.as_ref().to_vec(), bytes: bytes.as_ref().into(), mode });
        self
    }

    /// Collects a file after the program's end, cut off at `max_bytes`. One that is missing is no error.
    pub fn file_out(mut self, path: impl AsRef<[u8]>, max_bytes: u64) -> Self {
        self.files_out.push(FileOut { path: path.as_ref().to_vec(), max_bytes });
        self
    }

    /// Replaces the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Keeps at most so many bytes of each output stream in the outcome. What is beyond is read and
    /// dropped, and the program is not told: to end it instead, set [`Limits::output`].
    pub fn capture(mut self, bytes: u64) -> Self {
        self.capture = bytes;
        self
    }

    /// Gives the program a terminal of this size. Everything it writes comes as standard output.
    pub fn tty(mut self, rows: u16, columns: u16) -> Self {
        self.tty = Some(TtySize { rows, columns });
        self
    }

    /// The paths to try for the program, in order, as [`new`](Self::new) describes.
    ///
    /// Implementers try them inside, from the working directory, until one can be executed.
    pub fn candidates(&self) -> Vec<Vec<u8>> {
        let Some(program) = self.argv.first() else { return Vec::new() };
        if program.contains(&b'/') {
            return vec![program.clone()];
        }
        let in_directory = |directory: &[u8]| match directory {
            // An empty entry of PATH is the working directory.
            b"" => [b"./", &program[..]].concat(),
            _ => [directory, b"/", program].concat(),
        };
        self.search_path().split(|byte| *byte == b':').map(in_directory).collect()
    }

    fn search_path(&self) -> &[u8] {
        let own = self.env.iter().rev().find(|(name, _)| name == b"PATH");
        own.map_or(DEFAULT_PATH.as_bytes(), |(_, value)| value)
    }

    /// What this command needs besides limits.
    pub(crate) fn features(&self) -> impl Iterator<Item = Feature> + use<> {
        let ins = self.files_in.iter().map(|file| &file.path);
        let absolute =
            ins.chain(self.files_out.iter().map(|file| &file.path)).any(|path| path.starts_with(b"/"));
        let needs = [
            (self.tty.is_some(), Feature::Tty),
            (self.inherit_env, Feature::InheritEnv),
            (absolute, Feature::AbsoluteFiles),
        ];
        needs.into_iter().filter(|(needed, _)| *needed).map(|(_, feature)| feature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(command: &Command) -> Vec<String> {
        command.candidates().into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn a_program_with_a_slash_is_not_searched() {
        assert_eq!(candidates(&Command::new("./a").env("PATH", "/x")), ["./a"]);
    }

    #[test]
    fn a_program_without_a_slash_is_searched_in_the_commands_own_path() {
        let command = Command::new("a").env("PATH", "/old").env("PATH", "/x::/y");
        assert_eq!(candidates(&command), ["/x/a", "./a", "/y/a"]);
        assert_eq!(candidates(&Command::new("a")).last().unwrap(), "/bin/a");
    }

    #[test]
    fn a_command_names_the_features_it_needs() {
        assert_eq!(Command::new("a").file_in("b", "", 0o644).features().count(), 0);
        let needy = Command::new("a").file_out("/b", 1).tty(1, 1).inherit_env();
        let features: Vec<_> = needy.features().collect();
        assert_eq!(features, [Feature::Tty, Feature::InheritEnv, Feature::AbsoluteFiles]);
    }
}
