//! [`DynExec`]: the object-safe twin of [`Exec`], for choosing an executor at run time.

use async_trait::async_trait;

use crate::command::Command;
use crate::error::ExecError;
use crate::exec::Exec;
use crate::outcome::Outcome;
use crate::process::Process;
use crate::support::Support;

/// The object-safe twin of [`Exec`]. Every `Exec` is one, and `dyn DynExec` is again an `Exec`, at the price
/// of one allocation per call.
///
/// ```
/// use poolyard_exec::{Command, DynExec, Exec, ExecError};
///
/// async fn run(executor: Box<dyn DynExec>) -> Result<(), ExecError> {
///     executor.exec(&Command::new("true")).await?;
///     Ok(())
/// }
/// ```
#[async_trait]
pub trait DynExec: Send + Sync {
    /// [`Exec::support`].
    fn support_dyn(&self) -> &Support;
    /// [`Exec::spawn`].
    async fn spawn_dyn(&self, command: &Command) -> Result<Process, ExecError>;
    /// [`Exec::exec`].
    async fn exec_dyn(&self, command: &Command) -> Result<Outcome, ExecError>;
}

#[async_trait]
impl<E: Exec> DynExec for E {
    fn support_dyn(&self) -> &Support {
        self.support()
    }

    async fn spawn_dyn(&self, command: &Command) -> Result<Process, ExecError> {
        self.spawn(command).await
    }

    async fn exec_dyn(&self, command: &Command) -> Result<Outcome, ExecError> {
        self.exec(command).await
    }
}

impl Exec for dyn DynExec {
    fn support(&self) -> &Support {
        self.support_dyn()
    }

    async fn spawn(&self, command: &Command) -> Result<Process, ExecError> {
        self.spawn_dyn(command).await
    }

    async fn exec(&self, command: &Command) -> Result<Outcome, ExecError> {
        self.exec_dyn(command).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::ErrorKind;

    /// Runs nothing, but refuses as it must.
    struct Refuses(Support);

    impl Exec for Refuses {
        fn support(&self) -> &Support {
            &self.0
        }

        async fn spawn(&self, command: &Command) -> Result<Process, ExecError> {
            self.0.check(command)?;
            Err(ExecError::new(crate::Stage::Start, ErrorKind::ProgramNotFound, "there are no programs here"))
        }
    }

    /// What user code looks like: generic, and on a task of its own.
    async fn on_a_task<E: Exec + 'static>(executor: E, command: Command) -> ErrorKind {
        let task = tokio::spawn(async move { executor.exec(&command).await });
        task.await.unwrap().unwrap_err().kind()
    }

    #[tokio::test]
    async fn an_erased_executor_is_again_an_executor() {
        let command = Command::new("a");
        let erased: Box<dyn DynExec> = Box::new(Refuses(Support::new("/")));
        assert_eq!(erased.support().work_dir(), b"/");
        assert_eq!(on_a_task(erased, command.clone()).await, ErrorKind::ProgramNotFound);
        let shared: Arc<dyn DynExec> = Arc::new(Refuses(Support::new("/")));
        assert_eq!(on_a_task(shared, command).await, ErrorKind::ProgramNotFound);
    }

    #[tokio::test]
    async fn exec_refuses_a_stdin_that_nobody_could_write_to() {
        let refused = on_a_task(Refuses(Support::new("/")), Command::new("a").stdin_piped()).await;
        assert_eq!(refused, ErrorKind::InvalidCommand { field: "stdin" });
    }
}
