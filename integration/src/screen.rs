//! What the demo shows: steps that come to life on a terminal, and plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How often the line of a running step is drawn anew.
const REDRAW: Duration = Duration::from_millis(200);
/// Width of the column that says what a step does, characters.
const WHAT: usize = 60;

/// Says what is going on besides the step, such as packets sent so far.
pub type Live = Box<dyn Fn() -> String + Send + Sync>;

/// The table of steps.
pub struct Screen {
    terminal: bool,
    colour: bool,
    passed: usize,
    live: Option<Live>,
}

impl Screen {
    /// Colour on a terminal that wants it.
    pub fn new() -> Screen {
        let terminal = std::io::stdout().is_terminal();
        Screen {
            terminal,
            colour: terminal && std::env::var_os("NO_COLOR").is_none(),
            passed: 0,
            live: None,
        }
    }

    /// Steps that went well.
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// Shows this beside running steps from now on; `None` ends it.
    pub fn live(&mut self, live: Option<Live>) {
        self.live = live;
    }

    /// A heading above steps.
    pub fn heading(&self, text: &str) {
        println!("\n{}", self.paint("1", text));
    }

    /// The last line: good or not.
    pub fn verdict(&self, good: bool, text: &str) {
        let (code, word) = if good {
            ("32;1", "OK")
        } else {
            ("31;1", "FAILED")
        };
        println!(
            "\n{} {text}",
            self.paint(code, &format!("VERDICT: {word}."))
        );
    }

    /// Runs one step and prints its line: what, how it went, and how long it took.
    ///
    /// # Errors
    /// The step's, with what it was.
    pub fn step<T>(&mut self, what: &str, body: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        let start = Instant::now();
        let outcome = if self.terminal {
            let (done, ended) = mpsc::channel::<()>();
            std::thread::scope(|s| {
                let this = &*self;
                s.spawn(move || this.redraw(what, start, &ended));
                // Dropped also when the body panics: the other thread ends by it.
                let _done = done;
                body()
            })
        } else {
            body()
        };
        let erase = if self.terminal { "\r\x1b[2K" } else { "" };
        let took = start.elapsed().as_secs_f64();
        match outcome {
            Ok((value, said)) => {
                self.passed += 1;
                let ok = self.paint("32", "ok");
                println!("{erase}  {what:<WHAT$} {ok} {took:>5.1} s  {said}");
                Ok(value)
            }
            Err(e) => {
                let failed = self.paint("31", "FAILED");
                println!("{erase}  {what:<WHAT$} {failed} after {took:.1} s");
                Err(e).with_context(|| what.to_owned())
            }
        }
    }

    fn redraw(&self, what: &str, start: Instant, ended: &mpsc::Receiver<()>) {
        while ended.recv_timeout(REDRAW) == Err(RecvTimeoutError::Timeout) {
            let live = self.live.as_ref().map(|l| l()).unwrap_or_default();
            let took = start.elapsed().as_secs_f64();
            print!("\r\x1b[2K  {what:<WHAT$} .. {took:>5.1} s  {live}");
            let _ = std::io::stdout().flush();
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl Default for Screen {
    fn default() -> Screen {
        Screen::new()
    }
}
