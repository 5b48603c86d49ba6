//! Lines of bounded length from a stream, in buffers that are wiped.

use std::io::{self, Read};

use zeroize::Zeroizing;

use super::MAX_LINE;

/// Bytes read at a time.
const CHUNK: usize = 4096;

pub(super) struct Lines<R> {
    from: R,
    chunk: Box<Zeroizing<[u8; CHUNK]>>,
    /// What of the chunk is still to be looked at.
    rest: std::ops::Range<usize>,
    line: Zeroizing<Vec<u8>>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(from: R) -> Lines<R> {
        Lines {
            from,
            chunk: Box::new(Zeroizing::new([0; CHUNK])),
            rest: 0..0,
            line: Zeroizing::new(Vec::with_capacity(MAX_LINE)),
        }
    }

    /// The next line without its end; `None` at the end of the stream.
    ///
    /// # Errors
    /// `InvalidData` when a line is too long, no text, or cut off; else what the stream gives.
    pub(super) fn next(&mut self) -> io::Result<Option<&str>> {
        self.line.clear();
        loop {
            let rest = self.chunk.get(self.rest.clone()).unwrap_or_default();
            let end = rest.iter().position(|b| *b == b'\n');
            let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            if self.line.len() + part.len() > MAX_LINE {
                return Err(invalid("a line is too long"));
            }
            self.line.extend_from_slice(part);
            self.rest.start += part.len() + usize::from(end.is_some());
            if end.is_some() {
                let text = std::str::from_utf8(&self.line);
                return text.map(Some).map_err(|_| invalid("a line is no text"));
            }
            match self.from.read(&mut self.chunk[..]) {
                Ok(0) if self.line.is_empty() => return Ok(None),
                Ok(0) => return Err(invalid("the last line is cut off")),
                Ok(read) => self.rest = 0..read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `0.1` bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(out.len());
            self.0.read(&mut out[..n])
        }
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let long = "x".repeat(MAX_LINE);
        let text = format!("get=1\n\n{long}\nlast\n").repeat(40);
        for at_a_time in [1, 7, 4096, 100_000] {
            let mut lines = Lines::new(Drip(text.as_bytes(), at_a_time));
            for expected in text.lines() {
                assert_eq!(lines.next().unwrap(), Some(expected));
            }
            assert_eq!(lines.next().unwrap(), None);
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let long = "x".repeat(MAX_LINE + 1) + "\n";
        for bad in [long.as_bytes(), b"\xff\n", b"cut"] {
            let error = Lines::new(bad).next().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        // An endless line is refused before it fills memory.
        let error = Lines::new(io::repeat(b'x')).next().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
