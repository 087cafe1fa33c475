//! Compiles the resident agent, which the library carries for every kind of machine it can be compiled for.

fn main() {
    poolyard_guest::build::Program::new("agent", "agent").build_each();
}
