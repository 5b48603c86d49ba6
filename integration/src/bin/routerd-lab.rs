//! `routerd-lab cleanup`: removes what killed test runs left behind.

use anyhow::{Result, bail};

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("cleanup") => {
            for tag in integration::lab::sweep::dead()? {
                println!("removed {tag}");
            }
            Ok(())
        }
        _ => bail!("usage: routerd-lab cleanup"),
    }
}
