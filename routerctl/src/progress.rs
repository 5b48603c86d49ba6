//! Says on a terminal what takes longer than a second.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A line on stderr that appears after a second and vanishes when this is dropped.
pub(crate) struct Progress {
    /// New texts; closed to end.
    texts: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to wait; silent for good where stderr is no terminal.
    pub(crate) fn start(text: &str) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress {
                texts: None,
                thread: None,
            };
        }
        let (texts, receiver) = channel();
        let text = text.to_owned();
        Progress {
            texts: Some(texts),
            thread: Some(std::thread::spawn(move || show(text, &receiver))),
        }
    }

    /// Changes the text.
    pub(crate) fn set(&self, text: impl FnOnce() -> String) {
        if let Some(texts) = &self.texts {
            // The line is gone only when this is.
            let _ = texts.send(text());
        }
    }
}

fn show(mut text: String, texts: &Receiver<String>) {
    let start = Instant::now();
    let mut shown = false;
    let mut next = start + Duration::from_secs(1);
    loop {
        match texts.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(new) => text = new,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = start.elapsed().as_secs();
                // To the start of the line, and clear it.
                let _ = write!(std::io::stderr(), "\r\x1b[K{text} … {seconds} s");
                shown = true;
                next += Duration::from_secs(1);
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if shown {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.texts = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
