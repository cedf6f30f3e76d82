//! A program that forgot `init`.

use msgproc::prelude::*;

struct Nothing;

#[backend]
impl Nothing {}

#[test]
fn it_is_refused_with_what_to_write() {
    let error = MessageProcess::spawn("nothing", (), |(), _| Nothing).unwrap_err();
    assert!(matches!(error, Error::NotInitialized { .. }));
    assert!(error.to_string().contains("msgproc::init()"), "{error}");
    let error = ForkServer::start().unwrap_err();
    assert!(error.to_string().contains("msgproc::test_support!()"), "{error}");
}
