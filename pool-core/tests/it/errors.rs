//! Errors say what happened, why, and what to do next.

use std::error::Error;

use poolyard_core::AcquireError;
use poolyard_testkit::{FakeError, FakeManager, Method, Step};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn a_failed_creation_has_the_managers_error_as_its_source() {
    let fake = FakeManager::new().create_script([Step::err("no space left")]);
    let pool = pool_of(1, &fake).build().unwrap();
    let error = pool.acquire(&1).await.unwrap_err();
    let source = error.source().and_then(|source| source.downcast_ref::<FakeError>());
    assert_eq!(source.unwrap().text, "no space left");
    assert!(!error.to_string().contains("no space left"), "a source is not told twice");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_tells_the_state_of_the_pool() {
    let fake = FakeManager::new();
    let pool = pool_of(1, &fake).wait_timeout(secs(1)).build().unwrap();
    let _lease = pool.acquire(&1).await.unwrap();
    let text = pool.acquire(&1).await.unwrap_err().to_string();
    assert!(text.contains("a resource to be returned") && text.contains("1 leased"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_tells_the_last_error_of_its_own_key_and_of_no_other() {
    let fake = FakeManager::new().create_script([Step::ok(), Step::err("no space left"), Step::hang()]);
    let pool = pool_of(3, &fake).wait_timeout(secs(1)).build().unwrap();
    let _lease = pool.acquire(&1).await.unwrap();
    pool.acquire(&2).await.unwrap_err();
    fake.always(Method::Create, Step::hang());
    for (key, told) in [(2, true), (3, false)] {
        let error = pool.acquire(&key).await.unwrap_err();
        assert!(matches!(error, AcquireError::TimedOut { .. }), "{error}");
        assert_eq!(error.to_string().contains("no space left"), told, "key {key}: {error}");
    }
}

#[test]
fn a_message_says_what_to_do_next() {
    let advice: [(AcquireError<FakeError>, &str); 4] = [
        (AcquireError::TooManyWaiters { max_waiters: 5 }, "raise the limit or offer less load"),
        (AcquireError::TooCostly { cost: 9, max_cost: 5 }, "raise max_cost"),
        (AcquireError::InsideRuntime, "await acquire instead"),
        (AcquireError::Forked, "make a new pool in the child"),
    ];
    for (error, words) in advice {
        assert!(error.to_string().contains(words), "{error}");
    }
}
