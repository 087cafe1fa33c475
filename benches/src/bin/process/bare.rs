//! A worker that is nothing but a worker: no loader, no C library. What is left of its start is what starts it.

use std::io;
use std::path::PathBuf;
use std::process::Command;

/// Says that it is ready and waits for its end. The frame is twelve bytes; its ninth is the kind.
const SOURCE: &str = r#"
static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
void _start(void) {
    char frame[12] = {0, 0, 0, 0, 0, 0, 0, 0, 16};
    char more[64];
    call(1, 1, (long)frame, sizeof frame);
    while (call(0, 0, (long)more, sizeof more) > 0) {}
    call(60, 0, 0, 0);
}
"#;

/// The program. It goes with this value.
pub(crate) struct Bare(PathBuf);

impl Bare {
    pub(crate) fn build() -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("poolyard-bare-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let bare = Self(dir);
        let source = bare.0.join("bare.c");
        std::fs::write(&source, SOURCE)?;
        let options = ["-O2", "-static", "-nostdlib", "-fno-stack-protector", "-o"];
        let status = Command::new("cc").args(options).arg(bare.path()).arg(&source).status()?;
        if status.success() { Ok(bare) } else { Err(io::Error::other("cc cannot build it")) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.join("bare")
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
