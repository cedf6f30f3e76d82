#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| liar::targets::frame(data));
