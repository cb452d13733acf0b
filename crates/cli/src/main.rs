//! The parole program.
fn main() {}
