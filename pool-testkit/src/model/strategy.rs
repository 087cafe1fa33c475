//! Strategies of proptest for plans, and for their parts. All shrink to what is simple: few
//! operations, the first kinds, small numbers, a pool of one.

use std::time::Duration;

use poolyard_core::{PoolConfig, ReuseOrder};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::plan::{Op, Plan};
use crate::script::{Method, Then};

/// Plans of up to `most` operations over these keys and configurations.
pub fn plans<K: Clone + std::fmt::Debug + 'static>(
    keys: impl Strategy<Value = K> + Clone + 'static,
    configs: impl Strategy<Value = PoolConfig>,
    most: usize,
) -> impl Strategy<Value = Plan<K>> {
    (configs, ops(keys, most)).prop_map(|(config, ops)| Plan { config, ops })
}

/// Up to `most` operations over these keys.
pub fn ops<K: Clone + std::fmt::Debug + 'static>(
    keys: impl Strategy<Value = K> + Clone + 'static,
    most: usize,
) -> impl Strategy<Value = Vec<Op<K>>> {
    vec(op(keys), 0..=most)
}

/// One operation over these keys.
pub fn op<K: Clone + std::fmt::Debug + 'static>(
    keys: impl Strategy<Value = K> + Clone + 'static,
) -> impl Strategy<Value = Op<K>> {
    let number = || 0..16usize;
    let key = || keys.clone();
    let callers = prop_oneof![
        80 => key().prop_map(Op::Acquire),
        10 => key().prop_map(Op::TryAcquire),
        20 => number().prop_map(Op::Cancel),
        25 => (number(), 0..8u32).prop_map(|(user, way)| Op::Use(user, way)),
        60 => number().prop_map(Op::Release),
        10 => number().prop_map(Op::Discard),
        5 => number().prop_map(Op::Detach),
    ];
    let owner = prop_oneof![
        10 => (key(), 1..4usize).prop_map(|(key, wanted)| Op::Warm(key, wanted)),
        5 => number().prop_map(Op::Retain),
        5 => (1..4usize).prop_map(Op::Shed),
        5 => key().prop_map(Op::Invalidate),
        2 => Just(Op::InvalidateAll),
        5 => (1..5usize).prop_map(Op::Resize),
        2 => Just(Op::Suspend),
        6 => Just(Op::Resume),
        1 => Just(Op::Close),
    ];
    let world = prop_oneof![
        60 => Just(Op::Settle),
        25 => Just(Op::Work),
        15 => (1..150u64).prop_map(|time| Op::Pass(Duration::from_millis(time))),
        15 => (methods(), ends()).prop_map(|(method, end)| Op::Fault(method, end)),
        6 => number().prop_map(Op::Gone),
    ];
    prop_oneof![21 => callers, 4 => owner, 10 => world]
}

/// A method that can fail.
fn methods() -> impl Strategy<Value = Method> {
    use Method::*;
    prop_oneof![3 => Just(Create), 2 => Just(Recycle), 2 => Just(HealthCheck), 1 => Just(Destroy)]
}

/// How a call fails.
fn ends() -> impl Strategy<Value = Then> {
    prop_oneof![
        3 => Just(Then::Err("scripted error")),
        1 => Just(Then::Panic),
        1 => Just(Then::PanicAtCall),
        1 => Just(Then::Hang),
    ]
}

/// Small pools, in which everything runs into its limit soon: one to four resources, times in
/// milliseconds.
pub fn configs() -> impl Strategy<Value = PoolConfig> {
    let limits = (1..5usize).prop_flat_map(|total| {
        (Just(total), option::of(1..=total), option::of(0..=total), option::of(2..6usize))
    });
    let work = (1..4usize, 1..3usize, 1..4usize, 1..4usize, 0..2usize);
    let lives = (option::of(30..150u64), option::of(150..300u64), option::of(1..6u64));
    let ways = (any::<bool>(), any::<bool>(), 0..4u64);
    (limits, work, lives, ways).prop_map(|(limits, work, lives, ways)| {
        let (max_total, max_per_key, max_idle, max_waiters) = limits;
        let (max_creating, max_creating_per_key, max_recycling, max_destroying, max_surge) = work;
        let (fifo, checked, max_overtakes) = ways;
        let time = Duration::from_millis;
        PoolConfig {
            max_total,
            max_per_key,
            max_idle,
            max_waiters: max_waiters.unwrap_or(100),
            max_creating,
            max_creating_per_key,
            max_recycling,
            max_destroying,
            max_surge,
            max_overtakes,
            order: if fifo { ReuseOrder::Fifo } else { ReuseOrder::Lifo },
            check_after: checked.then_some(Duration::ZERO),
            idle_timeout: lives.0.map(time),
            max_lifetime: lives.1.map(time),
            max_uses: lives.2.unwrap_or(1 << 32),
            wait_timeout: Some(time(400)),
            create_timeout: time(100),
            recycle_timeout: time(100),
            health_check_timeout: time(100),
            destroy_timeout: time(100),
            ..PoolConfig::default()
        }
    })
}
