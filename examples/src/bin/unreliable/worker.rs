//! The process that the C library runs in.

#![allow(unsafe_code)] // The library.

use std::ffi::{CStr, CString, c_char};

use msgproc::prelude::*;

unsafe extern "C" {
    fn calculate(expression: *const c_char, value: *mut f64) -> *const c_char;
}

/// Calculates, or dies of it.
pub(crate) struct Calculator;

#[backend(calls = pub(crate) CalculatorCalls)]
impl Calculator {
    fn c__evaluate(&mut self, expression: String) -> Result<f64> {
        let expression = CString::new(expression).map_err(|_| "there is a null in it")?;
        let mut value = 0.0;
        // SAFETY: the expression ends with a null and lives through the call, and so does the
        // value. What else the library does to this process is why it has one of its own.
        let error = unsafe { calculate(expression.as_ptr(), &raw mut value) };
        if error.is_null() {
            return Ok(value);
        }
        // SAFETY: it gives a constant text, or null.
        let error = unsafe { CStr::from_ptr(error) };
        Err(error.to_string_lossy().into_owned().into())
    }
}
