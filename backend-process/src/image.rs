//! Makes an [`Image`] of a spec: the environment put together, the program found.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::error::{Error, ErrorKind, Stage};
use crate::spec::{Source, WorkerSpec};
use crate::sys::spawn::Image;

/// Where programs are looked for when the worker has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Prepares a worker's program. `extra` are the variables that tell it of its channel.
pub(crate) fn image(spec: &WorkerSpec, extra: &[(&str, String)]) -> Result<Image, Error> {
    let env = environment(spec, extra);
    let (path, argv) = match &spec.source {
        Source::Command { program, args } => {
            let path = find(program, env.get(OsStr::new("PATH")))?;
            let argv = std::iter::once(program).chain(args).map(|arg| c_string(arg));
            (c_string(&path)?, argv.collect::<Result<_, _>>()?)
        }
        // The zygote looks an entry up by its name.
        Source::Entry(name) => (c_string(OsStr::new(name))?, Vec::new()),
    };
    let envp = env.iter().map(|(name, value)| variable(name, value)).collect::<Result<_, _>>()?;
    let cwd = spec.cwd.as_ref().map(|dir| c_string(dir.as_os_str())).transpose()?;
    Ok(Image { path, argv, envp, cwd, attrs: spec.attrs.clone() })
}

fn environment(spec: &WorkerSpec, extra: &[(&str, String)]) -> BTreeMap<OsString, OsString> {
    let mut env: BTreeMap<_, _> =
        if spec.env_clear { BTreeMap::new() } else { std::env::vars_os().collect() };
    for (name, value) in &spec.env {
        match value {
            Some(value) => env.insert(name.clone(), value.clone()),
            None => env.remove(name),
        };
    }
    env.extend(extra.iter().map(|(name, value)| ((*name).into(), value.into())));
    env
}

/// The file that a bare program name means; a name with a slash means itself.
fn find(program: &OsStr, path: Option<&OsString>) -> Result<OsString, Error> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.to_owned());
    }
    let path = path.map_or(OsStr::new(DEFAULT_PATH), OsString::as_os_str);
    let candidates = std::env::split_paths(path).map(|dir| dir.join(program));
    candidates.into_iter().find(|file| is_executable(file)).map(Into::into).ok_or_else(|| {
        let why = format!("{:?} is in no directory of {path:?}", program);
        Error::system(Stage::Program, std::io::Error::new(std::io::ErrorKind::NotFound, why))
    })
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn variable(name: &OsStr, value: &OsStr) -> Result<CString, Error> {
    c_string(&OsString::from_vec([name.as_bytes(), b"=", value.as_bytes()].concat()))
}

fn c_string(text: &OsStr) -> Result<CString, Error> {
    CString::new(text.as_bytes()).map_err(|_| Error::new(Stage::Program, ErrorKind::ZeroByte))
}
