//! Files into the private directory and out of it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use poolyard_exec::{CollectedFile, Command, ErrorKind, ExecError, FileIn, FileOut, FileState, Stage};

use super::dir::PrivateDir;

pub(crate) fn copy_in(dir: &PrivateDir, command: &Command) -> Result<(), ExecError> {
    for file in &command.files_in {
        place(dir, file).map_err(|error| {
            let path = String::from_utf8_lossy(&file.path);
            let message = format!("`{path}` cannot be put in place; look for a directory in its way");
            ExecError::new(Stage::CopyIn, ErrorKind::CopyInFailed, message).with_source(error)
        })?;
    }
    Ok(())
}

/// Replaces what is there, so that an old symbolic link leads nowhere.
fn place(dir: &PrivateDir, file: &FileIn) -> io::Result<()> {
    let path = dir.path().join(OsStr::from_bytes(&file.path));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut placed = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    placed.write_all(&file.bytes)?;
    // Afterwards, and so past the umask.
    placed.set_permissions(Permissions::from_mode(file.mode))
}

pub(crate) fn collect(dir: &PrivateDir, wanted: &[FileOut]) -> Vec<CollectedFile> {
    let collect_one = |file: &FileOut| {
        let path = dir.path().join(OsStr::from_bytes(&file.path));
        let state = read(&path, file.max_bytes).unwrap_or_else(unreadable);
        CollectedFile { path: file.path.clone(), state }
    };
    wanted.iter().map(collect_one).collect()
}

fn read(path: &Path, max_bytes: u64) -> io::Result<FileState> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(FileState::NotAFile);
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    let mut bytes = Vec::new();
    // One more than wanted, to see whether there is more.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    let truncated = bytes.len() as u64 > max_bytes;
    if truncated {
        bytes.pop();
    }
    Ok(FileState::Found { bytes, mode, truncated })
}

fn unreadable(error: io::Error) -> FileState {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FileState::Missing,
        _ => FileState::Unreadable(error.to_string()),
    }
}
