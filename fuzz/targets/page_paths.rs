#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| monlight::fuzz::run("page_paths", data));
