//! The images, made without a registry.

use std::process::Command;

use poolyard_docker::DockerManager;

use crate::AnyError;

/// Busybox and nothing else; `engine.sh` makes it.
pub(crate) const PLAIN: &str = "poolyard-test:1";
pub(crate) const REDIS: &str = "poolyard-bench-redis:1";

/// Makes an image of the host's own Redis, if it is installed.
pub(crate) async fn redis() -> Result<bool, AnyError> {
    let script = "set -e; p=$(command -v redis-server); r=$(mktemp -d); mkdir -p $r/bin $r/data $r/tmp; \
        cp -L $p $r/bin/redis-server; \
        for l in $(ldd $p | grep -o '/[^ ]*'); do mkdir -p $r$(dirname $l); cp -L $l $r$l; done; \
        tar -C $r -c .; rm -rf $r";
    let output = Command::new("bash").arg("-c").arg(script).output()?;
    if !output.status.success() {
        return Ok(false);
    }
    DockerManager::local()?.import_image(REDIS, output.stdout, &["ENV PATH=/bin"]).await?;
    Ok(true)
}
