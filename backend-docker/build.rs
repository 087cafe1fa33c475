//! Compiles the resident agent, which the library carries.

fn main() {
    poolyard_guest::build::Program::new("agent", "agent").build();
}
