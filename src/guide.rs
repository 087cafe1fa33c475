//! The guides: pages to read from the first to the last line, with code that the tests run.
//!
//! - [`write_a_manager`]: from the first method to the proof that a manager is right
//! - [`migrate_from_deadpool_or_bb8`]: what to change, what to look out for
//! - [`operations`]: limits, control groups, containers, AppArmor, systemd, numbers
//! - [`sizing`]: how many, for whom, and how to see that it is too few or too many
//! - [`troubleshooting`]: symptom, command, fix
//!
//! They are the files of `docs/guide/` in the repository.

// Always documented; tested with the features that their code needs.
//
// The first definition of a link counts, so these go before those of the files, which lead to files.

#[doc = "[sizing]: self::sizing\n"]
#[doc = "[operations]: self::operations\n[troubleshooting]: self::troubleshooting\n\n"]
#[doc = include_str!("../docs/guide/write-a-manager.md")]
pub mod write_a_manager {}

#[cfg(any(all(doc, not(doctest)), all(feature = "bb8", feature = "deadpool")))]
#[doc = "[write a manager]: self::write_a_manager\n\n"]
#[doc = include_str!("../docs/guide/migrate-from-deadpool-or-bb8.md")]
pub mod migrate_from_deadpool_or_bb8 {}

#[cfg(any(all(doc, not(doctest)), feature = "serde"))]
#[doc = "[sizing]: self::sizing\n"]
#[doc = "[troubleshooting]: self::troubleshooting\n\n"]
#[doc = include_str!("../docs/guide/operations.md")]
pub mod operations {}

#[doc = "[operations]: self::operations\n\n"]
#[doc = include_str!("../docs/guide/sizing.md")]
pub mod sizing {}

#[doc = "[operations]: self::operations\n\n"]
#[doc = include_str!("../docs/guide/troubleshooting.md")]
pub mod troubleshooting {}

#[cfg(test)]
mod tests {
    #[test]
    fn the_guide_shows_the_code_that_is_put_to_the_laws() {
        let guide = include_str!("../docs/guide/write-a-manager.md");
        let laws = include_str!("../docs/guide/sessions_laws.rs");
        let (_, laws) = laws.split_once("mod sessions;\n\n").expect("it begins so");
        assert!(guide.contains(include_str!("../docs/guide/sessions.rs")), "the manager differs");
        assert!(guide.contains(laws), "the harness differs");
    }
}
