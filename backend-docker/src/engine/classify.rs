//! What an engine's complaint means. Statuses differ between engines (Podman says 500 where Docker
//! says 409), so the words count as well.

use bollard::errors::Error as Bollard;

use crate::error::{Error, ErrorKind, Stage};

pub(crate) fn bollard(stage: Stage, error: Bollard) -> Error {
    match error {
        Bollard::DockerResponseServerError { status_code, message } => classify(stage, status_code, &message),
        Bollard::DockerStreamError { error } => classify(stage, 500, &error),
        other => {
            let message = "is the engine running, and may this user reach its socket?";
            Error::new(stage, ErrorKind::Unreachable, message).with_source(other)
        }
    }
}

pub(crate) fn classify(stage: Stage, status: u16, message: &str) -> Error {
    Error::new(stage, kind(status, message), message.trim())
}

fn kind(status: u16, message: &str) -> ErrorKind {
    let text = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if says(&["port is already allocated", "address already in use"]) {
        return ErrorKind::PortTaken;
    }
    if says(&["no space left", "cannot allocate memory", "resource temporarily unavailable", "disk quota"]) {
        return ErrorKind::Capacity;
    }
    if says(&["no such image", "manifest unknown", "pull access denied", "repository does not exist"])
        || (says(&["image not known", "unable to find image", "manifest for"]) && status != 409)
    {
        return ErrorKind::ImageMissing;
    }
    // A container that ends at the same moment is a conflict too: Podman calls its state improper.
    if says(&["already in use", "name is in use", "already exists", "container state improper"]) {
        return ErrorKind::Conflict;
    }
    match status {
        404 => ErrorKind::Missing,
        409 => ErrorKind::Conflict,
        400 => ErrorKind::BadSpec,
        501 => ErrorKind::Unsupported,
        status => ErrorKind::Engine(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replies as engines gave them: Docker 20.10 and 26.1, Podman 4.3.
    #[test]
    fn complaints_of_different_engines_mean_the_same() {
        let cases = [
            (404, "No such image: nowhere:1", ErrorKind::ImageMissing),
            (404, "manifest for x:1 not found: manifest unknown: manifest unknown", ErrorKind::ImageMissing),
            (
                500,
                "driver failed programming external connectivity on endpoint a: Error starting userland proxy: listen tcp4 127.0.0.1:1: bind: address already in use",
                ErrorKind::PortTaken,
            ),
            (500, "Bind for 127.0.0.1:80 failed: port is already allocated", ErrorKind::PortTaken),
            (
                409,
                "Conflict. The container name \"/a\" is already in use by container \"b\".",
                ErrorKind::Conflict,
            ),
            (
                500,
                "creating container storage: the container name \"a\" is already in use by b. You have to remove that container to be able to reuse that name: that name is already in use",
                ErrorKind::Conflict,
            ),
            (500, "write /var/lib/docker/tmp: no space left on device", ErrorKind::Capacity),
            (404, "No such container: abc", ErrorKind::Missing),
            (400, "failed to create shim: OCI runtime create failed", ErrorKind::BadSpec),
            (409, "removal of container abc is already in progress", ErrorKind::Conflict),
            (
                500,
                "cannot remove container abc as it could not be stopped: sending SIGKILL to container abc: container state improper: stopped",
                ErrorKind::Conflict,
            ),
        ];
        for (status, message, expected) in cases {
            assert_eq!(kind(status, message), expected, "{status} {message}");
        }
    }
}
