//! [`InterpreterError`]: what goes wrong with an interpreter.

use std::error::Error;
use std::fmt;
use std::io;

/// What goes wrong with an interpreter.
#[derive(Debug)]
pub enum InterpreterError {
    /// Its program cannot be started.
    Start {
        /// The program.
        program: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// It has ended, or can no longer be reached.
    Lost(io::Error),
    /// It refused an expression; it can go on with another one.
    Refused(String),
    /// It is out of step, or could not be cleaned. It must not be used again.
    Unclean {
        /// What it said instead of what was expected.
        answer: String,
    },
}

impl fmt::Display for InterpreterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { program, .. } => write!(f, "{program} cannot be started; is it installed?"),
            Self::Lost(_) => f.write_str("the interpreter has ended; acquire another one"),
            Self::Refused(why) => write!(f, "the interpreter refused the expression: {why}"),
            Self::Unclean { answer } => write!(f, "the interpreter cannot be used again: it said {answer:?}"),
        }
    }
}

impl Error for InterpreterError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Start { source, .. } | Self::Lost(source) => Some(source),
            Self::Refused(_) | Self::Unclean { .. } => None,
        }
    }
}
