//! Integration tests: the real binaries over real sockets, real files and a real SQLite.

// A test binary has no public face.
#![allow(missing_docs, unreachable_pub)]

mod durability;
mod harness;
mod notify;
mod python;
