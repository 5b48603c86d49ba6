//! routerctl
fn main() {}
