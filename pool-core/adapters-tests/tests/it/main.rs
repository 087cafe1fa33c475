//! Published managers of deadpool and bb8, unchanged, in a pool of ours.

mod postgres;
mod redis;
mod sqlite;
