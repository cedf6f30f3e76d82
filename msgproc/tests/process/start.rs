use testkit::Test; pub(crate) fn tests() -> Vec<Test> { vec![] }
