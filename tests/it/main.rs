//! Integration tests: the real binaries over real sockets, real files and a real SQLite.

#![allow(missing_docs)]

mod harness;
