//! Capabilities by name.

use crate::error::{Error, ErrorKind, Stage};

/// In the kernel's order.
const NAMES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP \
    LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE \
    SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME \
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG \
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

/// What the agent needs: to become a command's user, to end and clean up after any user, and to
/// take capabilities away from what it starts.
pub(super) const AGENT: [&str; 7] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETPCAP", "SETUID"];

/// The kernel's bits for these names.
pub(crate) fn mask(names: &[String]) -> Result<u64, Error> {
    names.iter().try_fold(0, |mask, name| match NAMES.split(' ').position(|n| n == name) {
        Some(bit) => Ok(mask | 1 << bit),
        None => {
            let message = format!("{name:?} is no capability; use a name like NET_BIND_SERVICE");
            Err(Error::new(Stage::Spec, ErrorKind::BadSpec, message))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels_bits() {
        assert_eq!(mask(&["CHOWN".into(), "NET_BIND_SERVICE".into()]).unwrap(), 1 | 1 << 10);
        assert_eq!(mask(&["CHECKPOINT_RESTORE".into()]).unwrap(), 1 << 40);
        assert_eq!(*mask(&["ROOT".into()]).unwrap_err().kind(), ErrorKind::BadSpec);
    }
}
