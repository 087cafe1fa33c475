//! What only the host knows, and what can be reached only from there.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

/// The variable that the tests' own process has, and no hostile program may read.
pub(crate) const SECRET: &str = "POOLYARD_TEST_SECRET";

/// Servers and files of the host that hostile programs look for. They go with this value.
pub(crate) struct Outside {
    name: String,
    port: u16,
    file: PathBuf,
    shm: PathBuf,
    pub(crate) programs: PathBuf,
    _unix: UnixListener,
    _tcp: TcpListener,
}

impl Outside {
    pub(crate) fn new(programs: &Path) -> Self {
        let name = format!("poolyard-hostile-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let file = PathBuf::from(format!("/var/tmp/{name}.secret"));
        let shm = PathBuf::from(format!("/dev/shm/{name}"));
        std::fs::write(&file, token()).unwrap();
        std::fs::write(&shm, token()).unwrap();
        Self {
            port: tcp.local_addr().unwrap().port(),
            _unix: UnixListener::bind_addr(&address).unwrap(),
            _tcp: tcp,
            programs: programs.into(),
            name,
            file,
            shm,
        }
    }

    /// The words of an attack, filled in. `home` is the directory of the programs, as the attack sees it.
    pub(crate) fn fill(&self, words: &[&str], home: &str) -> Vec<String> {
        let file = self.file.display().to_string();
        let known = [
            ("{token}", token()),
            ("{name}", self.name.clone()),
            ("{port}", self.port.to_string()),
            ("{file_from_root}", file.trim_start_matches('/').to_owned()),
            ("{file}", file),
            ("{shm}", self.shm.display().to_string()),
            ("{rooted}", format!("{home}/rooted")),
        ];
        let fill = |word: &&str| {
            known.iter().fold(word.to_string(), |word, (name, value)| word.replace(name, value))
        };
        words.iter().map(fill).collect()
    }

    pub(crate) fn secret_file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
        let _ = std::fs::remove_file(&self.shm);
    }
}

/// A text that nobody knows by chance.
pub(crate) fn token() -> String {
    std::env::var(SECRET).unwrap_or_else(|_| format!("token-of-{}", std::process::id()))
}
