//! The events of [`tracing`](https://docs.rs/tracing) that a pool emits. Names of fields are stable.
//!
//! All have the target `poolyard_core` or one below it. `id` is the resource as text, `took` and `held`
//! are durations in their `Debug` form, `error` and `panic` are messages, `reason` is a
//! [`Reason`](crate::Reason) in words.
//!
//! | level | message | fields |
//! |---|---|---|
//! | error | `poolyard: no thread for the driver` | `error` |
//! | error | `poolyard: the manager panicked` | `method`, `panic` |
//! | error | `poolyard: reuse panicked` | `id`, `panic` |
//! | error | `poolyard: the policy of a key cannot work` | `error` |
//! | error | `poolyard: a resource's end panicked` | `reason`, `panic` |
//! | error | `poolyard: a destroy missed its deadline; its resource is abandoned` | `id`, `reason` |
//! | warn | `poolyard: creation failed` | `id`, `error`, `took` |
//! | warn | `poolyard: the resource is not used again` | `id`, `call`, `reason`, `error` |
//! | warn | `poolyard: the manager blocks its thread; use spawn_blocking` | `id`, `call`, `held` |
//! | warn | `poolyard: a job was lost` | `id`, `reason` |
//! | debug | `poolyard: created` | `id`, `took`, `description` |
//! | debug | `poolyard: creation failed, trying again` | `id`, `attempt`, `error`, `pause` |
//! | debug | `poolyard: destroyed` | `id`, `reason` |
//! | debug | `poolyard: gone` | `id`, `cause` |
//! | trace | `poolyard: acquired` | `id`, `waited` |
//! | trace | `poolyard: returned` | `id` |
