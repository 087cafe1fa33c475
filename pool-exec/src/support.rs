//! [`Support`]: what one executor can enforce, and the refusal of the rest by name.

use std::borrow::Cow;
use std::fmt;

use crate::command::Command;
use crate::error::{ErrorKind, ExecError, Stage};
use crate::limit::{Limit, LimitValue};
use crate::limits::Limits;

/// What one executor can enforce, and where its commands start.
///
/// An implementer of [`Exec`](crate::Exec) builds it once per resource. What is not mentioned is not
/// supported.
///
/// ```
/// use poolyard_exec::{Enforcement, Limit, LimitValue, Limits, Support};
///
/// let support = Support::new("/box")
///     .per_command([Limit::WallTime, Limit::Output])
///     .per_resource([Limit::Memory])
///     .unsupported([Limit::Swap], "the kernel does not account swap; boot with swapaccount=1")
///     .with_made_with(Limits::new().memory(64 << 20));
///
/// let fixed = Enforcement::PerResource(Some(LimitValue::Bytes(64 << 20)));
/// assert_eq!(support.enforcement(Limit::Memory), fixed);
/// assert!(Limits::new().memory(64 << 20).refuse_unsupported(&support).is_ok());
/// assert!(Limits::new().memory(32 << 20).refuse_unsupported(&support).is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Support {
    /// Indexed by `Limit as usize`.
    scopes: [Scope; Limit::ALL.len()],
    /// Fixed values of per-resource limits, ceilings of per-command ones.
    made_with: Limits,
    /// What is not in the list is supported.
    missing: Vec<(Feature, Cow<'static, str>)>,
    work_dir: Vec<u8>,
}

/// Where a limit is set, without its value.
#[derive(Clone, Debug)]
enum Scope {
    PerCommand,
    PerResource,
    No(Cow<'static, str>),
}

/// How one limit is enforced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Enforcement {
    /// Each command may set it, up to the value that the resource was made with, if it was.
    PerCommand {
        /// The loosest value that a command may ask for.
        ceiling: Option<LimitValue>,
    },
    /// The resource has it for its whole life, or (`None`) was made without it. A command may ask for
    /// exactly this value.
    PerResource(Option<LimitValue>),
    /// Not at all, and why.
    No(Cow<'static, str>),
}

/// What a command can ask for besides limits, and not every executor has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Feature {
    /// [`Command::tty`].
    Tty,
    /// [`Command::inherit_env`].
    InheritEnv,
    /// [`Command::file_in`] and [`Command::file_out`] with absolute paths.
    AbsoluteFiles,
    /// [`Process::signal`](crate::Process::signal).
    Signal,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::Tty => "tty",
            Feature::InheritEnv => "inherit_env",
            Feature::AbsoluteFiles => "files with absolute paths",
            Feature::Signal => "signal",
        })
    }
}

impl Support {
    /// Supports no limit and every [`Feature`]. Commands start in `work_dir`, an absolute path inside.
    ///
    /// # Panics
    ///
    /// If `work_dir` is not absolute: a mistake of the implementer.
    pub fn new(work_dir: impl AsRef<[u8]>) -> Self {
        let work_dir = work_dir.as_ref().to_vec();
        assert!(work_dir.starts_with(b"/"), "the work directory is absolute");
        Self {
            scopes: Limit::ALL.map(|_| Scope::No("this executor has no means to".into())),
            made_with: Limits::new(),
            missing: Vec::new(),
            work_dir,
        }
    }

    /// Each command may set these limits.
    pub fn per_command(self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.with_scope(limits, Scope::PerCommand)
    }

    /// These limits are set when the resource is made.
    pub fn per_resource(self, limits: impl IntoIterator<Item = Limit>) -> Self {
        self.with_scope(limits, Scope::PerResource)
    }

    /// These limits cannot be enforced. The reason completes the sentence "cannot be enforced: ..." and
    /// ends with what to do, if anything can be done.
    pub fn unsupported(
        self,
        limits: impl IntoIterator<Item = Limit>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.with_scope(limits, Scope::No(reason.into()))
    }

    fn with_scope(mut self, limits: impl IntoIterator<Item = Limit>, scope: Scope) -> Self {
        for limit in limits {
            self.scopes[limit as usize] = scope.clone();
        }
        self
    }

    /// The limits that the resource was made with: fixed values of per-resource limits, ceilings and
    /// defaults of per-command ones.
    pub fn with_made_with(mut self, limits: Limits) -> Self {
        self.made_with = limits;
        self
    }

    /// This feature is missing, and why.
    pub fn without(mut self, feature: Feature, reason: impl Into<Cow<'static, str>>) -> Self {
        self.missing.push((feature, reason.into()));
        self
    }

    /// How `limit` is enforced.
    pub fn enforcement(&self, limit: Limit) -> Enforcement {
        match &self.scopes[limit as usize] {
            Scope::PerCommand => Enforcement::PerCommand { ceiling: self.made_with.value(limit) },
            Scope::PerResource => Enforcement::PerResource(self.made_with.value(limit)),
            Scope::No(reason) => Enforcement::No(reason.clone()),
        }
    }

    /// Why `feature` is missing, or `None` if it is there.
    pub fn missing(&self, feature: Feature) -> Option<&str> {
        self.missing.iter().find(|(missing, _)| *missing == feature).map(|(_, reason)| &**reason)
    }

    /// The limits that the resource was made with.
    pub fn made_with(&self) -> &Limits {
        &self.made_with
    }

    /// Where a command without [`Command::cwd`] starts and relative paths of files begin: an absolute path
    /// inside.
    pub fn work_dir(&self) -> &[u8] {
        &self.work_dir
    }

    /// Everything that can be said about `command` before it is tried: that it is well formed, asks for no
    /// missing feature, and which limits will be in force.
    ///
    /// Every implementer of [`Exec`](crate::Exec) begins with it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCommand`], [`ErrorKind::UnsupportedFeature`] or
    /// [`ErrorKind::UnsupportedLimit`], always at [`Stage::Check`]. Nothing has happened yet.
    pub fn check(&self, command: &Command) -> Result<Limits, ExecError> {
        command.validate()?;
        for feature in command.features() {
            self.require(feature)?;
        }
        command.limits.refuse_unsupported(self)
    }

    /// Refuses if `feature` is missing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnsupportedFeature`].
    pub fn require(&self, feature: Feature) -> Result<(), ExecError> {
        let Some(reason) = self.missing(feature) else { return Ok(()) };
        let message = format!("{feature} is not supported here: {reason}");
        Err(ExecError::new(Stage::Check, ErrorKind::UnsupportedFeature(feature), message))
    }

    /// Refuses `wanted` if it cannot be enforced exactly as asked.
    pub(crate) fn admit(&self, limit: Limit, wanted: &LimitValue) -> Result<(), ExecError> {
        let message = match self.enforcement(limit) {
            Enforcement::PerCommand { ceiling: None } => return Ok(()),
            Enforcement::PerCommand { ceiling: Some(ceiling) } if ceiling.allows(wanted) => return Ok(()),
            Enforcement::PerResource(Some(fixed)) if fixed == *wanted => return Ok(()),
            Enforcement::PerCommand { ceiling: Some(ceiling) } => format!(
                "limit `{limit}` of {wanted} is above the resource's own of {ceiling}: ask for less, or \
                 make the resource with more"
            ),
            Enforcement::PerResource(Some(fixed)) => format!(
                "limit `{limit}` is fixed at {fixed} for the life of the resource: ask for exactly that, or \
                 make a resource with {wanted}"
            ),
            Enforcement::PerResource(None) => format!(
                "limit `{limit}` is set when the resource is made, and this one was made without: put \
                 {wanted} into its profile"
            ),
            Enforcement::No(reason) => format!(
                "limit `{limit}` cannot be enforced: {reason}; leave it out only if you can do without it"
            ),
        };
        Err(ExecError::new(Stage::Check, ErrorKind::UnsupportedLimit(limit), message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(support: &Support, limits: Limits) -> ErrorKind {
        limits.refuse_unsupported(support).unwrap_err().kind()
    }

    #[test]
    fn what_is_not_mentioned_is_refused_by_name() {
        let support = Support::new("/box");
        let error = Limits::new().memory(1).refuse_unsupported(&support).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedLimit(Limit::Memory));
        assert!(error.to_string().contains("`memory`"), "{error}");
    }

    #[test]
    fn a_reason_reaches_the_user() {
        let support = Support::new("/box").unsupported([Limit::Swap], "boot with swapaccount=1");
        let error = Limits::new().swap(0).refuse_unsupported(&support).unwrap_err();
        assert!(error.to_string().contains("boot with swapaccount=1"), "{error}");
    }

    #[test]
    fn a_per_resource_limit_is_accepted_exactly_when_the_resource_was_made_with_it() {
        let without = Support::new("/box").per_resource([Limit::Memory]);
        assert_eq!(refused(&without, Limits::new().memory(5)), ErrorKind::UnsupportedLimit(Limit::Memory));
        let with = without.with_made_with(Limits::new().memory(5));
        assert_eq!(Limits::new().memory(5).refuse_unsupported(&with).unwrap().memory, Some(5));
        assert_eq!(refused(&with, Limits::new().memory(4)), ErrorKind::UnsupportedLimit(Limit::Memory));
        assert_eq!(refused(&with, Limits::new().memory(6)), ErrorKind::UnsupportedLimit(Limit::Memory));
    }

    #[test]
    fn a_per_command_limit_may_be_stricter_than_the_resources_own_but_not_looser() {
        let support =
            Support::new("/box").per_command([Limit::Memory]).with_made_with(Limits::new().memory(5));
        assert_eq!(Limits::new().memory(4).refuse_unsupported(&support).unwrap().memory, Some(4));
        assert_eq!(refused(&support, Limits::new().memory(6)), ErrorKind::UnsupportedLimit(Limit::Memory));
    }

    #[test]
    fn the_resources_own_limits_hold_for_a_command_that_asks_for_none() {
        let support =
            Support::new("/box").per_command([Limit::Memory]).with_made_with(Limits::new().memory(5));
        assert_eq!(Limits::new().refuse_unsupported(&support).unwrap().memory, Some(5));
    }

    #[test]
    fn a_missing_feature_is_refused_by_name() {
        let support = Support::new("/box").without(Feature::Tty, "there is no pty");
        let error = support.check(&Command::new("/bin/sh").tty(24, 80)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedFeature(Feature::Tty));
        assert!(error.to_string().contains("there is no pty"), "{error}");
        support.check(&Command::new("/bin/sh")).unwrap();
    }
}
