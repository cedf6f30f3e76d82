//! A graph file, as YAML and as JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| msgproc::__private::read_check_write(data));
