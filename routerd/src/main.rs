//! routerd
fn main() {}
