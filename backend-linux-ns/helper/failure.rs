//! What went wrong, and how the host is told.

use poolyard_rt::frame::{Header, Writer};
use poolyard_rt::socket;
use poolyard_rt::sys::{self, Errno};

use crate::protocol::{Kind, Stage};

/// A step that failed.
#[derive(Clone, Copy)]
pub struct Failure {
    pub stage: Stage,
    pub errno: Errno,
    /// Which of several: the number of a part, a limit, a descriptor.
    pub index: u32,
}

pub type Result<T> = core::result::Result<T, Failure>;

impl Failure {
    pub fn new(stage: Stage, errno: Errno) -> Self {
        Self { stage, errno, index: 0 }
    }

    /// Answers request `seq`. If even that fails, the closed socket will tell.
    pub fn report(self, host: i32, seq: u32) {
        reply(host, Kind::Failed, seq, &[self.stage as u32, self.errno.0 as u32, self.index], &[]);
    }

    /// Tells the host and ends.
    pub fn die(self, host: i32) -> ! {
        self.report(host, 0);
        sys::exit(1)
    }
}

/// Answers request `seq` with a message whose body is a list of numbers.
pub fn reply(host: i32, kind: Kind, seq: u32, numbers: &[u32], fds: &[i32]) {
    let mut buffer = [0; 64];
    let mut writer = Writer::new(&mut buffer, Header { kind: kind as u16, flags: 0, seq });
    for &number in numbers {
        writer.u32(number);
    }
    if let Ok(frame) = writer.finish() {
        let _ = socket::send(host, frame, fds);
    }
}

/// Names the step that an error belongs to.
pub trait At<T> {
    fn at(self, stage: Stage) -> Result<T>;
    fn at_index(self, stage: Stage, index: usize) -> Result<T>;
}

impl<T> At<T> for sys::Result<T> {
    fn at(self, stage: Stage) -> Result<T> {
        self.at_index(stage, 0)
    }

    fn at_index(self, stage: Stage, index: usize) -> Result<T> {
        self.map_err(|errno| Failure { stage, errno, index: index as u32 })
    }
}

impl<T> At<T> for core::result::Result<T, poolyard_rt::frame::BadFrame> {
    fn at(self, stage: Stage) -> Result<T> {
        self.at_index(stage, 0)
    }

    fn at_index(self, stage: Stage, index: usize) -> Result<T> {
        self.map_err(|_| Failure { stage, errno: Errno::BADMSG, index: index as u32 })
    }
}
