//! A custom manager in full: interpreter processes that evaluate expressions over pipes.
//!
//! Made for expressions of people who mean well. An expression that changes the inside of a module
//! is not found out; for other people's code take a sandbox.

mod error;
mod process;

use std::borrow::Cow;

use poolyard::{Context, Manager, Reason};

pub use self::error::InterpreterError;
pub use self::process::Interpreter;

/// Which interpreter: the key of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// `python3`, with `json` and `math` loaded.
    Python,
    /// `sh`, which knows integers only.
    Shell,
}

impl Language {
    /// The first one that is installed: Python before the shell.
    pub fn best() -> Option<Self> {
        [Self::Python, Self::Shell].into_iter().find(|language| language.is_installed())
    }

    /// Whether its program is in the `PATH`.
    pub fn is_installed(self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(self.program()).is_file())
    }

    /// The program to start.
    pub fn program(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::Shell => "sh",
        }
    }

    /// The program's arguments: the text of our worker among them.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            // -I: nothing from the user's directories or environment.
            Self::Python => &["-I", "-c", include_str!("worker.py")],
            Self::Shell => &["-c", include_str!("worker.sh")],
        }
    }
}

/// Makes, cleans, checks and ends [`Interpreter`]s.
#[derive(Clone, Copy, Debug)]
pub struct Interpreters;

impl Manager for Interpreters {
    type Key = Language;
    type Resource = Interpreter;
    type Error = InterpreterError;

    /// Complete with the first answer: programs and modules are loaded then.
    async fn create(&self, language: &Language, cx: &Context) -> Result<Interpreter, InterpreterError> {
        let gone = cx.gone();
        let mut interpreter = Interpreter::start(*language, move |cause| gone.report(cause))?;
        interpreter.check().await?;
        Ok(interpreter)
    }

    async fn recycle(
        &self,
        _: &Language,
        interpreter: &mut Interpreter,
        _: &Context,
    ) -> Result<(), InterpreterError> {
        interpreter.reset().await
    }

    async fn health_check(
        &self,
        _: &Language,
        interpreter: &mut Interpreter,
        _: &Context,
    ) -> Result<(), InterpreterError> {
        interpreter.check().await
    }

    async fn destroy(&self, _: &Language, interpreter: &mut Interpreter, _: Reason, _: &Context) {
        interpreter.end().await;
    }

    fn describe(&self, interpreter: &Interpreter) -> Cow<'static, str> {
        format!("process {}", interpreter.pid()).into()
    }
}
