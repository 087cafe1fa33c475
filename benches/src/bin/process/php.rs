//! php-fpm with two workers, spoken to over one kept connection of FastCGI.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use poolyard_process::{CgiRequest, FastCgi, Protocol};

use crate::side::{Side, timed};

const SCRIPT: &str = "<?php echo file_get_contents('php://input');";
const END_REQUEST: u8 = 3;

pub(crate) struct Php {
    running: Result<Running, String>,
}

struct Running {
    master: Child,
    dir: PathBuf,
    connection: UnixStream,
}

impl Php {
    pub(crate) fn new() -> Self {
        Self { running: Running::start() }
    }
}

/// The newest program of that name, which carries its version.
fn program() -> Option<PathBuf> {
    let dirs = ["/usr/sbin", "/usr/local/sbin"].into_iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    let files = dirs.flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("php-fpm"))).max()
}

impl Running {
    fn start() -> Result<Self, String> {
        let program = program().ok_or("php-fpm is not installed")?;
        let dir = std::env::temp_dir().join(format!("poolyard-php-{}", std::process::id()));
        let text = |error: std::io::Error| error.to_string();
        std::fs::create_dir_all(&dir).map_err(text)?;
        std::fs::write(dir.join("echo.php"), SCRIPT).map_err(text)?;
        let (conf, socket) = (dir.join("fpm.conf"), dir.join("fpm.sock"));
        let settings = format!(
            "[global]\nerror_log = /dev/null\n[www]\nuser = root\ngroup = root\nlisten = {}\npm = static\n\
             pm.max_children = 2\n",
            socket.display()
        );
        std::fs::write(&conf, settings).map_err(text)?;
        let mut command = Command::new(program);
        command.args(["-F", "-R", "-n", "-d", "post_max_size=16M", "-y"]).arg(conf);
        let master = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(text)?;
        let begun = Instant::now();
        let connection = loop {
            match UnixStream::connect(&socket) {
                Ok(connection) => break connection,
                Err(error) if begun.elapsed() > Duration::from_secs(10) => return Err(error.to_string()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        Ok(Self { master, dir, connection })
    }

    /// Connects anew if the connection has ended, as it does now and then by php-fpm's own wish.
    fn call(&mut self, request: &CgiRequest) -> Result<(), String> {
        self.try_call(request).or_else(|_| {
            let socket = self.dir.join("fpm.sock");
            self.connection = UnixStream::connect(socket).map_err(|error| error.to_string())?;
            self.try_call(request)
        })
    }

    fn try_call(&mut self, request: &CgiRequest) -> Result<(), String> {
        let mut bytes = Vec::new();
        FastCgi.session().encode(1, request, &mut bytes).map_err(|error| error.to_string())?;
        let mut writer = self.connection.try_clone().map_err(|error| error.to_string())?;
        let answer = std::thread::scope(|scope| {
            if bytes.len() > 60_000 {
                scope.spawn(|| writer.write_all(&bytes));
            } else {
                writer.write_all(&bytes)?;
            }
            self.read_answer()
        });
        answer.map_err(|error: std::io::Error| error.to_string())
    }

    fn read_answer(&mut self) -> std::io::Result<()> {
        let mut content = Vec::new();
        loop {
            let mut header = [0; 8];
            self.connection.read_exact(&mut header)?;
            let length = u16::from_be_bytes([header[4], header[5]]) as usize + header[6] as usize;
            content.resize(length, 0);
            self.connection.read_exact(&mut content)?;
            if header[1] == END_REQUEST {
                return Ok(());
            }
        }
    }
}

impl Side for Php {
    fn name(&self) -> &str {
        "php-fpm"
    }

    fn latency(&mut self, payload: &[u8], n: usize) -> Result<Vec<f64>, String> {
        let running = self.running.as_mut().map_err(|error| error.clone())?;
        let script = running.dir.join("echo.php").display().to_string();
        let request = CgiRequest::post(script, "application/octet-stream", payload);
        running.call(&request)?;
        Ok(timed(n, || running.call(&request).expect("an answer")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not SIGKILL, which would leave its workers.
        let _ = Command::new("kill").arg(self.master.id().to_string()).status();
        let _ = self.master.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
