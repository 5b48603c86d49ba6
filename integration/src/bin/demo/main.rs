//! `make demo`: three nodes and what may happen to them, then two racks and their switches, then policy.
//!
//! Exit status 0 when everything that was shown is true, 1 otherwise.

mod mesh;
mod policy;
mod racks;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use integration::lab::Lab;
use integration::lab::supervise::supervised;
use integration::screen::Screen;

fn main() -> ExitCode {
    supervised(demo)
}

fn demo() -> ExitCode {
    let start = Instant::now();
    let mut screen = Screen::new();
    let outcome = part(mesh::show, &mut screen)
        .and_then(|()| part(racks::show, &mut screen))
        .and_then(|()| part(policy::show, &mut screen));
    let took = start.elapsed().as_secs();
    match outcome {
        Ok(()) => {
            let checks = screen.passed();
            screen.verdict(
                true,
                &format!("{checks} steps as promised, in {took} s; all of it is removed again."),
            );
            ExitCode::SUCCESS
        }
        Err(e) => {
            screen.verdict(false, &format!("After {took} s: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Shows a part in a lab of its own.
fn part(show: impl FnOnce(&Lab, &mut Screen) -> Result<()>, screen: &mut Screen) -> Result<()> {
    let lab = Lab::new()?;
    let shown = show(&lab, screen);
    if shown.is_err() {
        lab.show_logs();
    }
    shown
}
