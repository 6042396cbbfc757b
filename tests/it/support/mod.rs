//! Shared fixtures of the integration tests. Modules outside this folder contain tests.

pub mod browser;
pub mod collector;
pub mod databases;
pub mod docker_engine;
pub mod docker_log;
pub mod figures;
pub mod harness;
pub mod logs;
pub mod peers;
pub mod programs;
pub mod prometheus;
pub mod python;
pub mod receiver;
pub mod rng;
pub mod smoke_test;
pub mod stack;
pub mod workers;
