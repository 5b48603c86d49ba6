//! JSON lines of a watch.

use std::io::{BufRead, BufReader, Read};

use serde::de::DeserializeOwned;

use crate::Error;
use crate::answer::Body;
use crate::connection::Connection;

/// JSON lines as the daemon sends them; reading waits for the next one without end.
#[derive(Debug)]
pub struct Lines {
    operation: String,
    body: Body<BufReader<Connection>>,
    max: usize,
}

impl Lines {
    pub(crate) fn new(operation: String, body: Body<BufReader<Connection>>, max: usize) -> Lines {
        Lines {
            operation,
            body,
            max,
        }
    }

    /// The next line that is not blank; `None` when the daemon ended the answer.
    ///
    /// # Errors
    /// [`Error::Io`] when the connection breaks, [`Error::Broken`] for a line that does not
    /// decode or is too long.
    pub fn next_line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let broken = |operation: &str, reason: String| Error::Broken {
            operation: operation.to_owned(),
            reason,
        };
        loop {
            let mut line = Vec::new();
            let limit = u64::try_from(self.max).unwrap_or(u64::MAX);
            let n = (&mut self.body)
                .take(limit)
                .read_until(b'\n', &mut line)
                .map_err(|source| Error::Io {
                    operation: self.operation.clone(),
                    source,
                })?;
            if n == 0 {
                return Ok(None);
            }
            if n == self.max && line.last() != Some(&b'\n') {
                let reason = format!("a line is longer than {} bytes", self.max);
                return Err(broken(&self.operation, reason));
            }
            if !line.trim_ascii().is_empty() {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|e| broken(&self.operation, format!("a line does not decode: {e}")));
            }
        }
    }
}
