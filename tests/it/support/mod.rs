//! Shared fixtures of the integration tests. Modules outside this folder contain tests.

pub mod collector;
pub mod docker_engine;
pub mod docker_log;
pub mod figures;
pub mod harness;
pub mod logs;
pub mod peers;
pub mod python;
pub mod receiver;
pub mod rng;
pub mod stack;
