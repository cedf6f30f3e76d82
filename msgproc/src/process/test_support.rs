//! Backends in programs of tests, whose `main` is the test harness's.

/// Makes [`MessageProcess::spawn`](crate::MessageProcess::spawn) and [`ForkServer`](crate::ForkServer) work in a program of tests, whose `main` is
/// not yours: calls [`init`](crate::init) before `main`. Write it once in the file of a test, or in `lib.rs`
/// under `#[cfg(test)]`.
///
/// ```
/// msgproc::test_support!();
/// ```
#[macro_export]
macro_rules! test_support {
    () => {
        const _: () = {
            extern "C" fn before_main() {
                $crate::init();
            }
            #[used]
            #[allow(unsafe_code)] // Named to the loader, which calls it before `main`.
            #[unsafe(link_section = ".init_array")]
            static BEFORE_MAIN: extern "C" fn() = before_main;
        };
    };
}
