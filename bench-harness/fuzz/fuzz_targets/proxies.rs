//! Fuzz target: see `brightwire_bench::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brightwire_bench::fuzz::run("proxies", data));
