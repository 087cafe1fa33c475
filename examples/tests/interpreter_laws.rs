//! The interpreters of the examples put to the laws.

use poolyard_examples::interpreter::{Interpreter, InterpreterError, Interpreters, Language};
use poolyard_testkit::availability::Availability;
use poolyard_testkit::{Harness, conformance};
use rustix::process::{Pid, Signal, kill_process};

struct InterpreterHarness;

fn signal(interpreter: &Interpreter, signal: Signal) {
    let pid = Pid::from_raw(interpreter.pid().cast_signed()).expect("a process has an id");
    kill_process(pid, signal).expect("the interpreter runs");
}

impl Harness for InterpreterHarness {
    type Manager = Interpreters;

    async fn availability() -> Availability {
        if !cfg!(target_os = "linux") {
            return Availability::Missing("interpreters are counted in /proc; run it on Linux".into());
        }
        let found = Language::Python.is_installed();
        Availability::when(found, "there is no python3 in the PATH; install the package python3")
    }

    async fn new() -> Self {
        Self
    }

    fn manager(&self) -> Interpreters {
        Interpreters
    }

    fn keys(&self) -> Vec<Language> {
        vec![Language::Python, Language::Shell]
    }

    /// What 7 / 2 is depends on the language.
    async fn works(&self, language: &Language, interpreter: &mut Interpreter) -> bool {
        let expected = match language {
            Language::Python => "3.5",
            Language::Shell => "3",
        };
        interpreter.evaluate("7 / 2").await.is_ok_and(|value| value == expected)
    }

    async fn dirty(&self, interpreter: &mut Interpreter, mark: u32) {
        let expression = match mark % 3 {
            0 => format!("(mark{mark} := 1)"),
            1 => format!("globals().update(mark{mark}=[1])"),
            _ => format!("json.__dict__ and globals().setdefault('mark{mark}', lambda: 1)"),
        };
        match interpreter.evaluate(&expression).await {
            Ok(_) => {}
            // The shell evaluates numbers only, and nothing can be left in it.
            Err(InterpreterError::Refused(_)) => {}
            Err(error) => panic!("the interpreter works: {error}"),
        }
    }

    async fn is_dirty(&self, interpreter: &mut Interpreter, mark: u32) -> bool {
        let question = format!("'mark{mark}' in globals()");
        // The shell has no such names and refuses the question.
        interpreter.evaluate(&question).await.is_ok_and(|value| value == "True")
    }

    async fn kill(&self, interpreter: &mut Interpreter) {
        signal(interpreter, Signal::KILL);
        interpreter.evaluate("1").await.expect_err("a killed interpreter says nothing more");
    }

    async fn stop(&self, interpreter: &mut Interpreter) {
        signal(interpreter, Signal::STOP);
    }

    async fn live(&self) -> usize {
        let tasks = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        tasks.filter(|entry| parent_of(&entry.path()) == Some(std::process::id())).count()
    }
}

/// The parent of the process with this directory in /proc. Zombies count: they are not reaped yet.
fn parent_of(process: &std::path::Path) -> Option<u32> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

conformance!(python3, InterpreterHarness);
