//! The events of [`tracing`](https://docs.rs/tracing) that a pool emits. Names of fields are stable.
//!
//! All have the target `poolyard_core` or one below it. `id` is the resource as text, `key` the hash
//! of a key by the pool's hasher; `took`, `held`, `lasted` and the `waited` of a wait that is over are durations in
//! their `Debug` form, that of `acquired` says whether there was a wait; `error` and `panic` are
//! messages, `reason` is a [`Reason`](crate::Reason) in words.
//!
//! | level | message | fields |
//! |---|---|---|
//! | error | `poolyard: no thread for the driver` | `error` |
//! | error | `poolyard: the manager panicked` | `method`, `panic` |
//! | error | `poolyard: reuse panicked` | `id`, `panic` |
//! | error | `poolyard: the policy of a key cannot work` | `error` |
//! | error | `poolyard: a resource's end panicked` | `reason`, `panic` |
//! | error | `poolyard: a destroy missed its deadline; its resource is abandoned` | `id`, `reason` |
//! | error | `poolyard: the pressure source panicked` | `panic` |
//! | warn | `poolyard: creation failed` | `id`, `error`, `took` |
//! | warn | `poolyard: creations of a key keep failing; none is tried for a while` | `id`, `failures`, `pause` |
//! | warn | `poolyard: under pressure; idle resources go and no creation starts` | `cause` |
//! | warn | `poolyard: a lease is held for long` | `id`, `held`, `at` |
//! | warn | `poolyard: the resource is not used again` | `id`, `call`, `reason`, `error` |
//! | warn | `poolyard: the manager blocks its thread; use spawn_blocking` | `id`, `call`, `held` |
//! | warn | `poolyard: a job was lost` | `id`, `reason` |
//! | info | `poolyard: the pressure is over` | `lasted` |
//! | debug | `poolyard: created` | `id`, `took`, `description` |
//! | debug | `poolyard: specialised` | `id`, `took`, `description` |
//! | debug | `poolyard: creation failed, trying again` | `id`, `attempt`, `error`, `pause` |
//! | debug | `poolyard: destroyed` | `id`, `reason` |
//! | debug | `poolyard: gone` | `id`, `cause` |
//! | trace | `poolyard: served` | `id`, `waited` |
//! | trace | `poolyard: not served` | `key`, `waited`, `error` |
//! | trace | `poolyard: cancelled` | `key`, `waited` |
//! | trace | `poolyard: acquired` | `id`, `key`, `waited` |
//! | trace | `poolyard: returned` | `id` |
//! | trace | `poolyard: detached` | `id` |
//! | trace | `poolyard: recycled` | `id`, `took` |
//! | trace | `poolyard: hibernated` | `id`, `took` |
//! | trace | `poolyard: woken` | `id`, `took` |
