//! A pool of this process, shown to others: on a Unix socket, one picture in JSON per connection.
//!
//! The process that is watched makes its pool with [`Latencies`] as observer and spawns [`serve`]. The
//! example `top` asks and draws; `nc -U SOCKET` shows what it gets.

mod latencies;
mod picture;
mod socket;

pub use latencies::{Latencies, Times};
pub use picture::{KeyPicture, Picture, ResourcePicture};
pub use socket::{ask, directory, find, serve};
