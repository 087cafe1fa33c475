//! [`WaitStatus`] and [`Signal`]: what the kernel says about the end of a process, in Linux numbers.

use std::fmt;

/// A raw wait status, as Linux gives it to a parent.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WaitStatus(i32);

impl WaitStatus {
    /// The status as `wait4` returned it.
    pub const fn from_raw(raw: i32) -> Self {
        Self(raw)
    }

    /// The status of a process that exited with the low eight bits of `code`.
    pub const fn from_code(code: i32) -> Self {
        Self((code & 0xff) << 8)
    }

    /// The status as `wait4` returned it.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// The exit code, if the process exited.
    pub const fn code(self) -> Option<i32> {
        if self.0 & 0x7f == 0 { Some((self.0 >> 8) & 0xff) } else { None }
    }

    /// The signal that killed the process, if one did.
    pub const fn signal(self) -> Option<Signal> {
        match self.0 & 0x7f {
            // 0x7f marks a stopped process, which is not an end.
            0 | 0x7f => None,
            number => Some(Signal(number)),
        }
    }
}

impl fmt::Debug for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.signal()) {
            (Some(code), _) => write!(f, "WaitStatus({:#06x}: exited {code})", self.0),
            (_, Some(signal)) => write!(f, "WaitStatus({:#06x}: killed by {signal})", self.0),
            _ => write!(f, "WaitStatus({:#06x})", self.0),
        }
    }
}

/// A signal, by its Linux number (on x86-64 and aarch64).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

/// The signals that have a name here.
const NAMES: [(i32, &str); 17] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (12, "SIGUSR2"),
    (13, "SIGPIPE"),
    (15, "SIGTERM"),
    (18, "SIGCONT"),
    (19, "SIGSTOP"),
    (24, "SIGXCPU"),
    (25, "SIGXFSZ"),
];

impl Signal {
    /// The terminal or the supervisor is gone.
    pub const HUP: Signal = Signal(1);
    /// Interrupt from the keyboard.
    pub const INT: Signal = Signal(2);
    /// Quit from the keyboard.
    pub const QUIT: Signal = Signal(3);
    /// Aborted itself.
    pub const ABRT: Signal = Signal(6);
    /// Killed; cannot be caught.
    pub const KILL: Signal = Signal(9);
    /// Free for the program's own use.
    pub const USR1: Signal = Signal(10);
    /// Accessed memory that is not there.
    pub const SEGV: Signal = Signal(11);
    /// Free for the program's own use.
    pub const USR2: Signal = Signal(12);
    /// Wrote to a pipe that nobody reads.
    pub const PIPE: Signal = Signal(13);
    /// Asked to end.
    pub const TERM: Signal = Signal(15);
    /// Goes on after a stop.
    pub const CONT: Signal = Signal(18);
    /// Stopped; cannot be caught.
    pub const STOP: Signal = Signal(19);
    /// Over its limit of processor time.
    pub const XCPU: Signal = Signal(24);
    /// Over its limit of file size.
    pub const XFSZ: Signal = Signal(25);

    /// The signal of this number, if Linux has it (1 to 64).
    pub const fn from_number(number: i32) -> Option<Signal> {
        if 1 <= number && number <= 64 { Some(Signal(number)) } else { None }
    }

    /// The Linux number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_an_exit_or_a_signal() {
        assert_eq!(WaitStatus::from_raw(0x0300).code(), Some(3));
        assert_eq!(WaitStatus::from_raw(0x0300).signal(), None);
        assert_eq!(WaitStatus::from_raw(0x008b).signal(), Some(Signal::SEGV), "with a core dump");
        assert_eq!(WaitStatus::from_raw(9).code(), None);
        assert_eq!(WaitStatus::from_raw(0x137f).signal(), None, "stopped is not an end");
        assert_eq!(WaitStatus::from_code(255).code(), Some(255));
    }

    #[test]
    fn a_signal_prints_its_name() {
        assert_eq!(Signal::KILL.to_string(), "SIGKILL");
        assert_eq!(Signal::from_number(40).unwrap().to_string(), "signal 40");
        assert_eq!(Signal::from_number(0), None);
        assert_eq!(Signal::from_number(65), None);
    }
}
