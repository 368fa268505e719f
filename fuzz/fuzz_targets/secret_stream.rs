#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wal_e_core::fuzzing::secret_stream(bytes));
