//! Files into and out of a lease. The init opens them, in the lease's own mount namespace and beneath its
//! writable directories; the kernel refuses every link on the way.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};

use poolyard_exec::{CollectedFile, ErrorKind, ExecError, FileIn, FileOut, FileState};

use crate::error::{Error, Stage};
use crate::lease::Lease;
use crate::protocol::open as place;

/// Opens something and makes sure that it is a regular file: a pipe or a device could hold us up.
pub(crate) async fn open(lease: &Lease, how: u8, mode: u32, path: &[u8]) -> Result<File, Error> {
    let (area, path) = locate(path)?;
    let file = File::from(lease.open(area, how, mode, &path).await?);
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => {
            Err(Error::system(Stage::Files, io::ErrorKind::InvalidInput.into())
                .about("it is not a regular file"))
        }
        Err(e) => Err(Error::system(Stage::Files, e)),
    }
}

pub(crate) async fn make_directory(lease: &Lease, mode: u32, path: &[u8]) -> Result<(), Error> {
    let (area, path) = locate(path)?;
    lease.open(area, place::DIRECTORY, mode, &path).await.map(drop)
}

/// The writable directory that a path starts in, and the rest of it.
fn locate(path: &[u8]) -> Result<(u8, CString), Error> {
    let inside = |directory: &str| {
        let rest = path.strip_prefix(directory.as_bytes())?;
        rest.strip_prefix(b"/")
    };
    let (area, rest) = match (inside("/box"), inside("/tmp")) {
        (Some(rest), _) => (place::WORK, rest),
        (_, Some(rest)) => (place::TMP, rest),
        _ if !path.starts_with(b"/") => (place::WORK, path),
        _ => {
            let error = Error::system(Stage::Files, io::ErrorKind::ReadOnlyFilesystem.into());
            return Err(error.about("only /box and /tmp are writable"));
        }
    };
    let rest =
        CString::new(rest).map_err(|_| Error::system(Stage::Files, io::ErrorKind::InvalidInput.into()))?;
    Ok((area, rest))
}

pub(crate) async fn copy_in(lease: &Lease, file: &FileIn) -> Result<(), ExecError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
        let path = String::from_utf8_lossy(&file.path);
        let message = format!(
            "`{path}` cannot be put in place: {source}; files can lie in /box and /tmp, below directories"
        );
        ExecError::new(poolyard_exec::Stage::CopyIn, ErrorKind::CopyInFailed, message).with_source(source)
    };
    let mut target =
        open(lease, place::WRITE, file.mode, &file.path).await.map_err(|e| failed(with_cause(e).into()))?;
    target.write_all(&file.bytes).map_err(|e| failed(e.into()))
}

/// The message of the cause is what a person needs here.
fn with_cause(error: Error) -> String {
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

pub(crate) async fn copy_out(lease: &Lease, file: &FileOut) -> Result<CollectedFile, ExecError> {
    let state = match open(lease, place::READ, 0, &file.path).await {
        Ok(found) => read(&found, file.max_bytes).unwrap_or_else(|e| FileState::Unreadable(e.to_string())),
        Err(error) if error.stage() != Stage::Files => return Err(error.into()),
        Err(error) => missing(&error),
    };
    Ok(CollectedFile { path: file.path.clone(), state })
}

fn missing(error: &Error) -> FileState {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(libc::ENOENT | libc::ENOTDIR) => FileState::Missing,
        // A link, a socket or a device without a driver.
        Some(libc::ELOOP | libc::ENXIO | libc::ENODEV) => FileState::NotAFile,
        None if source.is_some_and(|e| e.kind() == io::ErrorKind::InvalidInput) => FileState::NotAFile,
        _ => FileState::Unreadable(source.map_or_else(|| error.to_string(), ToString::to_string)),
    }
}

fn read(mut file: &File, max: u64) -> io::Result<FileState> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    let mut bytes = Vec::new();
    // Never more than asked for, however long the file says it is: it may be all hole.
    (&mut file).take(max).read_to_end(&mut bytes)?;
    let truncated = file.read(&mut [0])? > 0;
    Ok(FileState::Found { bytes, mode, truncated })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_in_one_of_the_writable_directories() {
        let located =
            |path: &str| locate(path.as_bytes()).map(|(area, rest)| (area, rest.into_string().unwrap()));
        assert_eq!(located("a/b").unwrap(), (place::WORK, "a/b".into()));
        assert_eq!(located("/box/a").unwrap(), (place::WORK, "a".into()));
        assert_eq!(located("/tmp/a").unwrap(), (place::TMP, "a".into()));
        for outside in ["/etc/passwd", "/", "/boxes/a", "/tmpx"] {
            assert_eq!(located(outside).unwrap_err().stage(), Stage::Files, "{outside}");
        }
    }
}
