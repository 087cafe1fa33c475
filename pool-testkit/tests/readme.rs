//! The README shows what is really run.

#[test]
fn the_example_of_the_readme_is_the_one_that_is_tested() {
    // A published package comes without this directory, and so without this test.
    assert!(include_str!("../README.md").contains(include_str!("directories.rs")));
}
