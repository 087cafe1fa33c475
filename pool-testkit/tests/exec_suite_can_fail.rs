//! The suite finds what is wrong: each law named here is broken by an executor with one fault.
#![cfg(target_os = "linux")]

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use poolyard_exec::{
    Command, ErrorKind, Exec, ExecError, Limit, Limits, Outcome, Process, Stage, Stdin, Support, Verdict,
    WaitStatus,
};
use poolyard_testkit::availability::Availability;
use poolyard_testkit::exec::{ExecHarness, LocalExec, laws, run_law};

/// One way to be wrong. What is not overridden is right.
trait Fault: Send + Sync + 'static {
    /// What really runs.
    fn command(command: &Command) -> Command {
        command.clone()
    }

    /// What is said about it.
    fn outcome(outcome: Outcome) -> Outcome {
        outcome
    }

    /// What becomes of a process when it is spawned.
    fn process(process: Process) -> Process {
        process
    }

    /// What an error turns into.
    fn error(error: ExecError) -> Result<Outcome, ExecError> {
        Err(error)
    }

    /// What is said to be supported.
    fn support(support: &Support) -> Support {
        support.clone()
    }

    /// Whether one error is the end of the executor.
    const BREAKS: bool = false;

    /// Whether commands go on when nobody waits for them any more.
    const LEAKS: bool = false;
}

/// A plain executor with one fault.
struct Broken<F> {
    inner: LocalExec,
    support: Support,
    is_broken: AtomicBool,
    fault: PhantomData<F>,
}

impl<F: Fault> Broken<F> {
    fn refuse_if_broken(&self) -> Result<(), ExecError> {
        let gone = || ExecError::new(Stage::Prepare, ErrorKind::ResourceGone, "an earlier error broke it");
        if self.is_broken.load(Ordering::SeqCst) { Err(gone()) } else { Ok(()) }
    }

    fn note(&self, error: ExecError) -> ExecError {
        self.is_broken.fetch_or(F::BREAKS, Ordering::SeqCst);
        error
    }
}

impl<F: Fault> Exec for Broken<F> {
    fn support(&self) -> &Support {
        &self.support
    }

    async fn spawn(&self, command: &Command) -> Result<Process, ExecError> {
        self.refuse_if_broken()?;
        let process = self.inner.spawn(&F::command(command)).await.map_err(|error| self.note(error))?;
        Ok(F::process(process))
    }

    async fn exec(&self, command: &Command) -> Result<Outcome, ExecError> {
        command.refuse_piped()?;
        let started = self.spawn(command).await;
        let ended = match started {
            Ok(process) if F::LEAKS => {
                let mut process = std::mem::ManuallyDrop::new(process);
                process.wait().await
            }
            Ok(mut process) => process.wait().await,
            Err(error) => return F::error(error),
        };
        ended.map(F::outcome)
    }
}

/// The harness of [`Broken`].
struct With<F>(PhantomData<F>);

impl<F: Fault> ExecHarness for With<F> {
    type Exec = Broken<F>;
    const NAME: &'static str = "broken";

    async fn availability() -> Availability {
        Availability::Ready
    }

    async fn executor(limits: Limits) -> Broken<F> {
        let inner = LocalExec::new().unwrap().sampled().made_with(limits).unwrap();
        let support = F::support(inner.support());
        Broken { inner, support, is_broken: AtomicBool::new(false), fault: PhantomData }
    }
}

/// Runs a law that must be kept by the executor without fault, and broken by the one with it.
macro_rules! is_caught {
    ($test:ident: $fault:ident breaks $($law:ident),+) => {
        #[test]
        fn $test() {
            $(
                run_law::<With<None>, _>(stringify!($law), laws::$law::<With<None>>);
                let broken = || run_law::<With<$fault>, _>(stringify!($law), laws::$law::<With<$fault>>);
                assert!(catch_unwind(AssertUnwindSafe(broken)).is_err(), "{} is not noticed", stringify!($law));
            )+
        }
    };
}

struct None;
impl Fault for None {}

struct DropsStderr;
impl Fault for DropsStderr {
    fn outcome(mut outcome: Outcome) -> Outcome {
        outcome.stderr.bytes.clear();
        outcome
    }
}
is_caught!(dropped_stderr_is_noticed: DropsStderr breaks the_two_streams_are_kept_apart, large_output_arrives_whole);

struct MixesStreams;
impl Fault for MixesStreams {
    fn outcome(mut outcome: Outcome) -> Outcome {
        outcome.stdout.bytes.append(&mut outcome.stderr.bytes);
        outcome
    }
}
is_caught!(mixed_streams_are_noticed: MixesStreams breaks the_two_streams_are_kept_apart);

struct CutsOutput;
impl Fault for CutsOutput {
    fn outcome(mut outcome: Outcome) -> Outcome {
        outcome.stdout.bytes.truncate(65_536);
        outcome
    }
}
is_caught!(lost_output_is_noticed: CutsOutput breaks large_output_arrives_whole, stdin_arrives_whole);

struct HidesTruncation;
impl Fault for HidesTruncation {
    fn outcome(mut outcome: Outcome) -> Outcome {
        outcome.stdout.truncated = false;
        outcome.stderr.truncated = false;
        outcome
    }
}
is_caught!(
    hidden_truncation_is_noticed: HidesTruncation breaks
        what_is_over_the_capture_is_dropped_and_the_program_goes_on, output_is_limited_to_the_byte
);

struct ForgetsEnvironment;
impl Fault for ForgetsEnvironment {
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        command.env.clear();
        command
    }
}
is_caught!(
    a_forgotten_environment_is_noticed: ForgetsEnvironment breaks
        the_environment_is_what_the_command_says, the_last_variable_of_a_name_counts,
        a_program_is_searched_in_the_commands_own_path
);

struct LeaksEnvironment;
impl Fault for LeaksEnvironment {
    fn command(command: &Command) -> Command {
        command.clone().env("SECRET_OF_THE_HOST", "1")
    }
}
is_caught!(a_leaked_variable_is_noticed: LeaksEnvironment breaks the_environment_is_what_the_command_says);

struct JoinsArguments;
impl Fault for JoinsArguments {
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        command.argv.retain(|argument| !argument.is_empty());
        command
    }
}
is_caught!(a_lost_argument_is_noticed: JoinsArguments breaks arguments_arrive_unchanged);

struct IgnoresDirectory;
impl Fault for IgnoresDirectory {
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        command.cwd = Option::None;
        command
    }
}
is_caught!(
    an_ignored_directory_is_noticed: IgnoresDirectory breaks
        a_command_starts_where_it_says, a_missing_working_directory_is_an_error
);

struct StartsElsewhere;
impl Fault for StartsElsewhere {
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        command.cwd.get_or_insert(b"/".to_vec());
        command
    }
}
is_caught!(a_wrong_default_directory_is_noticed: StartsElsewhere breaks a_command_starts_in_the_work_directory);

struct LosesInput;
impl Fault for LosesInput {
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        if let Stdin::Bytes(bytes) = &command.stdin {
            command.stdin = Stdin::Bytes(bytes[..bytes.len() / 2].into());
        }
        command
    }
}
is_caught!(lost_input_is_noticed: LosesInput breaks stdin_arrives_whole);

struct InventsInput;
impl Fault for InventsInput {
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        if command.stdin == Stdin::Empty {
            command.stdin = Stdin::Bytes(b"from somewhere"[..].into());
        }
        command
    }
}
is_caught!(invented_input_is_noticed: InventsInput breaks stdin_is_empty_unless_something_is_given);

struct LosesCode;
impl Fault for LosesCode {
    fn outcome(mut outcome: Outcome) -> Outcome {
        if let Verdict::Exited { .. } = outcome.verdict {
            outcome.verdict = Verdict::Exited { code: 0 };
        }
        outcome
    }
}
is_caught!(a_lost_exit_code_is_noticed: LosesCode breaks the_exit_code_is_told);

struct LosesStatus;
impl Fault for LosesStatus {
    fn outcome(mut outcome: Outcome) -> Outcome {
        outcome.status = outcome.status.map(|_| WaitStatus::from_code(0));
        outcome
    }
}
is_caught!(a_wrong_raw_status_is_noticed: LosesStatus breaks the_exit_code_is_told, a_signal_is_told);

/// What a shell between executor and program does.
struct TurnsSignalsIntoCodes;
impl Fault for TurnsSignalsIntoCodes {
    fn outcome(mut outcome: Outcome) -> Outcome {
        if let Verdict::Signaled { signal } = outcome.verdict {
            outcome.verdict = Verdict::Exited { code: 128 + signal.number() };
        }
        outcome
    }
}
is_caught!(a_signal_told_as_a_code_is_noticed: TurnsSignalsIntoCodes breaks a_signal_is_told);

struct TurnsErrorsIntoCodes;
impl Fault for TurnsErrorsIntoCodes {
    fn error(error: ExecError) -> Result<Outcome, ExecError> {
        if error.stage() == Stage::Start {
            Ok(Outcome::new(Verdict::Exited { code: 127 }))
        } else {
            Err(error)
        }
    }
}
is_caught!(
    a_failed_start_told_as_a_code_is_noticed: TurnsErrorsIntoCodes breaks
        a_missing_program_is_an_error, a_directory_is_not_executed, a_missing_working_directory_is_an_error,
        a_file_that_is_not_executable_is_not_executed
);

struct BreaksOnError;
impl Fault for BreaksOnError {
    const BREAKS: bool = true;
}
is_caught!(
    an_executor_that_an_error_breaks_is_noticed: BreaksOnError breaks
        bad_input_is_refused_by_field_and_leaves_the_executor_usable, a_missing_program_is_an_error,
        a_file_whose_path_is_blocked_is_an_error
);

struct AcceptsBadInput;
impl Fault for AcceptsBadInput {
    fn command(command: &Command) -> Command {
        if command.validate().is_ok() { command.clone() } else { Command::new("true") }
    }
}
is_caught!(
    accepted_nonsense_is_noticed: AcceptsBadInput breaks
        bad_input_is_refused_by_field_and_leaves_the_executor_usable
);

struct InventsUsage;
impl Fault for InventsUsage {
    fn outcome(mut outcome: Outcome) -> Outcome {
        outcome.usage.cpu_time = Option::None;
        outcome
    }
}
is_caught!(missing_usage_is_noticed: InventsUsage breaks usage_names_its_sources, cpu_time_is_summed_over_processes);

struct LosesModes;
impl Fault for LosesModes {
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        command.files_in.iter_mut().for_each(|file| file.mode |= 0o100);
        command
    }
}
is_caught!(
    a_wrong_mode_is_noticed: LosesModes breaks
        files_have_the_mode_that_was_asked_for, a_file_that_is_not_executable_is_not_executed
);

struct LosesFiles;
impl Fault for LosesFiles {
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        command.files_in.clear();
        command
    }
    fn outcome(mut outcome: Outcome) -> Outcome {
        outcome.files.clear();
        outcome
    }
}
is_caught!(
    lost_files_are_noticed: LosesFiles breaks
        files_are_there_when_the_program_starts, a_file_replaces_one_that_is_there,
        files_are_collected_whatever_the_verdict
);

/// Collects no file after a failure, as many do.
struct CollectsOnlyAfterSuccess;
impl Fault for CollectsOnlyAfterSuccess {
    fn outcome(mut outcome: Outcome) -> Outcome {
        if !outcome.success() {
            outcome.files.clear();
        }
        outcome
    }
}
is_caught!(
    files_lost_after_a_failure_are_noticed: CollectsOnlyAfterSuccess breaks files_are_collected_whatever_the_verdict
);

/// Accepts every limit, and enforces none.
struct IgnoresLimits;
impl Fault for IgnoresLimits {
    fn command(command: &Command) -> Command {
        // A bound, so that the programs that nothing stops do end.
        let rescue = Limits::new().wall_time(std::time::Duration::from_secs(3)).output(1 << 20);
        command.clone().limits(rescue)
    }
}
is_caught!(
    ignored_limits_are_noticed: IgnoresLimits breaks
        cpu_time_is_summed_over_processes, memory_is_limited, processes_are_limited,
        output_is_limited_to_the_byte, output_is_limited_while_it_is_streamed, file_size_is_limited,
        open_files_are_limited, stack_is_limited, every_limit_is_enforced_or_refused_by_name,
        an_exceeded_limit_leaves_the_executor_usable
);

/// Runs something else where there is a deadline, so that the test does not wait for ever.
struct IgnoresTime;
impl Fault for IgnoresTime {
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        if command.limits.wall_time.take().is_some() {
            command = Command::new("true");
        }
        command
    }
}
is_caught!(an_ignored_deadline_is_noticed: IgnoresTime breaks wall_time_ends_the_whole_tree);

/// Enforces limits, but tells only of the kill.
struct KillsWithoutSaying;
impl Fault for KillsWithoutSaying {
    fn outcome(mut outcome: Outcome) -> Outcome {
        if let (Verdict::Exceeded(_), Some(signal)) =
            (outcome.verdict, outcome.status.and_then(WaitStatus::signal))
        {
            outcome.verdict = Verdict::Signaled { signal };
        }
        outcome.limits_hit.clear();
        outcome
    }
}
is_caught!(
    a_limit_told_as_a_signal_is_noticed: KillsWithoutSaying breaks
        wall_time_ends_the_whole_tree, cpu_time_is_summed_over_processes, memory_is_limited,
        processes_are_limited, output_is_limited_to_the_byte
);

/// Says that it supports what it does not: the inner executor refuses, the user was told otherwise.
struct ClaimsSupport;
impl Fault for ClaimsSupport {
    fn support(support: &Support) -> Support {
        support.clone().per_command([Limit::Swap])
    }
}
is_caught!(a_false_claim_is_noticed: ClaimsSupport breaks every_limit_is_enforced_or_refused_by_name);

/// Says that it does not support a limit, and takes it all the same.
struct WeakensInSilence;
impl Fault for WeakensInSilence {
    fn support(support: &Support) -> Support {
        support.clone().unsupported([Limit::Memory], "there is no control group")
    }
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        command.limits.memory = Option::None;
        command
    }
}
is_caught!(
    a_limit_dropped_in_silence_is_noticed: WeakensInSilence breaks
        every_limit_is_enforced_or_refused_by_name, memory_is_limited
);

/// Ignores the resource's own limit where a command asks for more.
struct ForgetsCeilings;
impl Fault for ForgetsCeilings {
    fn command(command: &Command) -> Command {
        let mut command = command.clone();
        command.limits = Limits::new();
        command
    }
}
is_caught!(a_forgotten_ceiling_is_noticed: ForgetsCeilings breaks a_limit_above_the_resources_own_is_refused);

/// Goes on running what nobody waits for.
struct Leaks;
impl Fault for Leaks {
    const LEAKS: bool = true;
    fn command(command: &Command) -> Command {
        // What leaks here ends in a while, but later than the law waits.
        command.clone().limits(Limits::new().wall_time(std::time::Duration::from_secs(12)))
    }
}
is_caught!(a_leaked_command_is_noticed: Leaks breaks a_dropped_exec_leaves_nothing_running);

/// The same for processes whose handle is dropped.
struct LeaksProcesses;
impl Fault for LeaksProcesses {
    fn command(command: &Command) -> Command {
        command.clone().limits(Limits::new().wall_time(std::time::Duration::from_secs(12)))
    }
    fn process(process: Process) -> Process {
        without_kill(process)
    }
}
is_caught!(
    a_leaked_process_is_noticed: LeaksProcesses breaks
        a_dropped_process_leaves_nothing_running, a_kill_ends_the_whole_tree
);

/// A background process in a session of its own escapes the plain executor, and the law sees it.
#[test]
fn a_process_that_escapes_is_noticed() {
    let law = laws::a_process_in_a_session_of_its_own_is_killed_too::<With<None>>;
    let escaped = || run_law::<With<None>, _>("a_process_in_a_session_of_its_own_is_killed_too", law);
    assert!(catch_unwind(AssertUnwindSafe(escaped)).is_err(), "the escaped process is not noticed");
}

/// The same process, but neither kill nor drop reaches it.
fn without_kill(mut process: Process) -> Process {
    use std::sync::Arc;

    use poolyard_exec::{ProcessControl, ProcessParts, Signal, TtySize};

    struct Deaf(Arc<dyn ProcessControl>);

    #[async_trait::async_trait]
    impl ProcessControl for Deaf {
        async fn signal(&self, signal: Signal) -> Result<(), ExecError> {
            self.0.signal(signal).await
        }
        async fn resize(&self, size: TtySize) -> Result<(), ExecError> {
            self.0.resize(size).await
        }
        fn kill(&self) {}
    }

    let control = Arc::new(Deaf(process.control()));
    let (stdin, stdout, stderr) = (process.take_stdin(), process.take_stdout(), process.take_stderr());
    let (stdout, stderr) = (stdout.expect("not taken yet"), stderr.expect("not taken yet"));
    // On a task of its own the inner process is never dropped before its end.
    let inner = tokio::spawn(async move { process.wait().await });
    let exit = Box::pin(async { inner.await.expect("the wait does not panic") });
    let capture = poolyard_exec::DEFAULT_CAPTURE;
    Process::new(ProcessParts { stdin, stdout, stderr, exit, control, capture })
}
