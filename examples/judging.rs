//! A small judge, written against [`Exec`]: it does not know what kind of sandbox it is given.

use std::time::Duration;

use poolyard::exec::{Command, Exec, ExecError, Limit, Limits, Outcome, Profile, Verdict};
use poolyard::{AcquireError, Manager, Pool};

/// A task: what goes in and what must come out.
pub const INPUT: &[u8] = b"6 7\n";
const EXPECTED: &str = "42\n";

/// What a submission got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grade {
    /// The right answer within the limits.
    Accepted,
    /// Another answer.
    WrongAnswer,
    /// It was ended because of this limit, or hit it.
    Over(Limit),
    /// It ended by an error of its own.
    Failed,
}

/// Submissions and what they should get: shell scripts, so that every sandbox can run them.
pub const SUBMISSIONS: [(&str, &str, Grade); 6] = [
    ("right", "read a b; echo $((a * b))", Grade::Accepted),
    ("wrong", "read a b; echo $((a + b))", Grade::WrongAnswer),
    ("broken", "read a b; exit 3", Grade::Failed),
    ("endless loop", "while :; do :; done", Grade::Over(Limit::WallTime)),
    ("endless output", "while :; do echo 42; done", Grade::Over(Limit::Output)),
    ("endless memory", "x=0123456789abcdef; while :; do x=$x$x; done", Grade::Over(Limit::Memory)),
];

/// What sandboxes for submissions are made from, whatever their kind.
pub fn profile(image: Option<String>) -> Profile {
    let profile = Profile::new().limits(Limits::new().memory(32 << 20).processes(32));
    match image {
        Some(image) => profile.image(image),
        None => profile,
    }
}

/// Judges one script in a sandbox of the pool.
///
/// # Errors
///
/// If there is no sandbox, or it could not run the script. A bad script is no error.
pub async fn judge<M>(pool: &Pool<M>, key: &M::Key, script: &str) -> Result<Grade, JudgeError<M::Error>>
where
    M: Manager,
    M::Resource: Exec,
{
    let limits = Limits::new().wall_time(Duration::from_secs(2)).output(64 << 10);
    let command = Command::shell(script).stdin_bytes(INPUT).limits(limits);
    let sandbox = pool.acquire(key).await.map_err(JudgeError::Acquire)?;
    let outcome = sandbox.exec(&command).await.map_err(JudgeError::Exec)?;
    Ok(grade(&outcome))
}

/// Why a submission could not be judged.
#[derive(Debug)]
pub enum JudgeError<E> {
    /// There was no sandbox.
    Acquire(AcquireError<E>),
    /// It could not run the script.
    Exec(ExecError),
}

impl<E: std::fmt::Display> std::fmt::Display for JudgeError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            JudgeError::Acquire(error) => error.fmt(f),
            JudgeError::Exec(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for JudgeError<E> {}

fn grade(outcome: &Outcome) -> Grade {
    match outcome.verdict {
        Verdict::Exceeded(limit) => Grade::Over(limit),
        // The kernel may have ended a part of it only.
        _ if outcome.limits_hit.contains(&Limit::Memory) => Grade::Over(Limit::Memory),
        Verdict::Exited { code: 0 } if outcome.stdout.text() == EXPECTED => Grade::Accepted,
        Verdict::Exited { code: 0 } => Grade::WrongAnswer,
        _ => Grade::Failed,
    }
}
