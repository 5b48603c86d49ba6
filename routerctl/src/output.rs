//! Stdout, and colours where a person looks at it.

use std::io::{self, IsTerminal, Write};

use model::api::Health;

use crate::failure::Failure;

/// Stdout. A reader that went away is remembered, not complained about: the work goes on.
pub(crate) struct Out {
    inner: Box<dyn Write>,
    colour: bool,
    error: Option<io::Error>,
}

/// Terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Out {
    pub(crate) fn stdout() -> Out {
        let stdout = io::stdout();
        // https://no-color.org: set and not empty.
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Out {
            colour: wanted && stdout.is_terminal(),
            inner: Box::new(stdout),
            error: None,
        }
    }

    /// Whether colours are wanted.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// The text in a colour, where colours are wanted.
    pub(crate) fn paint(&self, colour: Colour, text: &str) -> String {
        paint(self.colour, Some(colour), text)
    }

    /// Writes a text as it is.
    pub(crate) fn text(&mut self, text: &str) {
        if self.error.is_none() {
            let written = self
                .inner
                .write_all(text.as_bytes())
                .and_then(|()| self.inner.flush());
            self.error = written.err();
        }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) {
        self.text(&format!("{text}\n"));
    }

    /// Whether nothing written arrives any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.error.is_some()
    }

    /// Says whether all that was written arrived, unless the reader did not want it.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.error {
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(format!("cannot write to stdout: {e}")))
            }
            _ => Ok(()),
        }
    }
}

/// The text in a colour if `on`.
pub(crate) fn paint(on: bool, colour: Option<Colour>, text: &str) -> String {
    let code = match colour {
        Some(Colour::Red) => 31,
        Some(Colour::Green) => 32,
        Some(Colour::Yellow) => 33,
        Some(Colour::Cyan) => 36,
        None => return text.to_owned(),
    };
    if on {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Colour of a health.
pub(crate) fn health(health: Health) -> Colour {
    match health {
        Health::Ok => Colour::Green,
        Health::Degraded => Colour::Yellow,
        Health::Failed => Colour::Red,
    }
}
