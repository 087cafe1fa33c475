//! Builds the embedded program.

fn main() {
    poolyard_guest::build::Program::new("helper", "helper").build();
}
