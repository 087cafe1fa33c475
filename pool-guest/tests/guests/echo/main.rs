//! Sends back what it receives on descriptor 3, until that is closed.

#![no_std]
#![no_main]

use poolyard_rt::{entry, sys};

entry!(main);

fn main() -> ! {
    let mut buffer = [0; 512];
    loop {
        match sys::read(3, &mut buffer) {
            Ok(0) | Err(_) => sys::exit(0),
            Ok(n) => drop(sys::write(3, &buffer[..n])),
        }
    }
}
