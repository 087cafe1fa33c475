//! The plain executor keeps the laws, with and without sampling.
#![cfg(target_os = "linux")]

use poolyard_exec::Limits;
use poolyard_testkit::availability::Availability;
use poolyard_testkit::exec::{ExecHarness, LocalExec};

const NO_SESSIONS: (&str, &str) = (
    "a_process_in_a_session_of_its_own_is_killed_too",
    "plain processes are followed by their process group, which setsid leaves",
);

struct Plain;

impl ExecHarness for Plain {
    type Exec = LocalExec;
    const NAME: &'static str = "local";

    async fn availability() -> Availability {
        Availability::Ready
    }

    async fn executor(limits: Limits) -> LocalExec {
        LocalExec::new().unwrap().made_with(limits).unwrap()
    }

    fn excused() -> &'static [(&'static str, &'static str)] {
        &[NO_SESSIONS]
    }
}

struct Sampled;

impl ExecHarness for Sampled {
    type Exec = LocalExec;
    const NAME: &'static str = "local-sampled";

    async fn availability() -> Availability {
        Availability::Ready
    }

    async fn executor(limits: Limits) -> LocalExec {
        LocalExec::new().unwrap().sampled().made_with(limits).unwrap()
    }

    fn excused() -> &'static [(&'static str, &'static str)] {
        &[NO_SESSIONS]
    }
}

mod plain {
    poolyard_testkit::exec_suite!(super::Plain);
}

mod sampled {
    poolyard_testkit::exec_suite!(super::Sampled);
}
