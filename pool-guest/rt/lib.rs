//! The runtime of guest programs: entry point, system calls, memory functions. No C library, no
//! allocation, no threads.
//!
//! A guest is `#![no_std]`, `#![no_main]`, and names its main function with [`entry!`].

#![no_std]

mod arch;
#[path = "../src/frame.rs"]
pub mod frame;
mod mem;
pub mod socket;
pub mod sys;

pub use arch::{syscall, vfork};

/// Makes `fn(..) -> !` the program's main function.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn poolyard_main() -> ! {
            $main()
        }
    };
}

/// A guest has nobody to tell; its parent sees the exit code.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    sys::exit(101)
}
