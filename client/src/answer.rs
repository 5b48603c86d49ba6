//! Head and body of an HTTP/1.1 answer (RFC 9112).

use std::io::{self, BufRead, Read};

/// Longest head, and longest line of chunk framing, in bytes.
const MAX_HEAD: u64 = 64 * 1024;
const MAX_CHUNK_LINE: u64 = 4096;
const MAX_HEADERS: usize = 64;

/// Status and framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By its length.
    Length(u64),
    /// By its last chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn ends_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ends early")
}

/// Reads the head, skipping interim (1xx) ones.
///
/// # Errors
/// `InvalidData` for what is no HTTP, `UnexpectedEof` when it ends early, and what reading gives.
pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    loop {
        let head = parse_head(&head_bytes(reader)?)?;
        if head.status >= 200 {
            return Ok(head);
        }
    }
}

fn head_bytes(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut limited = reader.take(MAX_HEAD);
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        limited.read_until(b'\n', &mut bytes)?;
        let line = bytes.get(start..).unwrap_or_default();
        if line.last() != Some(&b'\n') {
            return Err(if limited.limit() == 0 {
                invalid("the head is too long")
            } else {
                ends_early()
            });
        }
        if line.trim_ascii().is_empty() {
            return Ok(bytes);
        }
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(invalid("not an HTTP answer")),
        Err(e) => return Err(invalid(format!("not an HTTP answer: {e}"))),
    }
    let status = response.code.ok_or_else(|| invalid("no status"))?;
    let mut length: Option<u64> = None;
    let mut chunked = false;
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            let n = value
                .parse()
                .map_err(|_| invalid(format!("content-length {value:?}")))?;
            if length.is_some_and(|old| old != n) {
                return Err(invalid("two content-lengths"));
            }
            length = Some(n);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(invalid(format!("transfer-encoding {value:?}")));
            }
            chunked = true;
        }
    }
    let framing = match (status, chunked, length) {
        (204 | 304, _, _) => Framing::Length(0),
        (_, true, _) => Framing::Chunked,
        (_, false, Some(n)) => Framing::Length(n),
        (_, false, None) => Framing::UntilClose,
    };
    Ok(Head { status, framing })
}

/// The body of an answer without its framing.
#[derive(Debug)]
pub(crate) struct Body<R> {
    reader: R,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This much of the body is left.
    Length(u64),
    /// A chunk's size comes next; the first has no line end before it.
    Size {
        first: bool,
    },
    /// This much of the chunk is left, which is not nothing.
    Chunk(u64),
    UntilClose,
    Done,
}

impl<R: BufRead> Body<R> {
    pub(crate) fn new(reader: R, framing: Framing) -> Body<R> {
        let state = match framing {
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Size { first: true },
            Framing::UntilClose => State::UntilClose,
        };
        Body { reader, state }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.reader)
            .take(MAX_CHUNK_LINE)
            .read_until(b'\n', &mut line)?;
        if line.last() == Some(&b'\n') {
            Ok(line)
        } else if line.len() < usize::try_from(MAX_CHUNK_LINE).unwrap_or(usize::MAX) {
            Err(ends_early())
        } else {
            Err(invalid("a chunk's head is too long"))
        }
    }

    /// Reads what stands between two chunks, and all that follows the last.
    fn next_chunk(&mut self, first: bool) -> io::Result<State> {
        if !first && !self.line()?.trim_ascii().is_empty() {
            return Err(invalid("a chunk is longer than its size"));
        }
        let line = self.line()?;
        let Ok(httparse::Status::Complete((_, size))) = httparse::parse_chunk_size(&line) else {
            return Err(invalid("a chunk has no size"));
        };
        if size > 0 {
            return Ok(State::Chunk(size));
        }
        // Trailer fields carry nothing for us.
        while !self.line()?.trim_ascii().is_empty() {}
        Ok(State::Done)
    }

    /// How much may be read at once from here; 0 at the end.
    fn window(&mut self) -> io::Result<u64> {
        if let State::Size { first } = self.state {
            self.state = self.next_chunk(first)?;
        }
        Ok(match self.state {
            State::Length(n) | State::Chunk(n) => n,
            State::UntilClose => u64::MAX,
            State::Size { .. } | State::Done => 0,
        })
    }
}

impl<R: BufRead> BufRead for Body<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let window = usize::try_from(self.window()?).unwrap_or(usize::MAX);
        if window == 0 {
            return Ok(&[]);
        }
        let buffer = self.reader.fill_buf()?;
        if buffer.is_empty() && self.state != State::UntilClose {
            return Err(ends_early());
        }
        Ok(buffer.get(..window.min(buffer.len())).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        self.state = match self.state {
            State::Length(n) => State::Length(n.saturating_sub(amount)),
            State::Chunk(n) if n > amount => State::Chunk(n - amount),
            State::Chunk(_) if amount > 0 => State::Size { first: false },
            other => other,
        };
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        // A tiny buffer, so that every boundary falls everywhere.
        let mut reader = BufReader::with_capacity(3, bytes);
        let head = read_head(&mut reader)?;
        let mut body = Vec::new();
        Body::new(reader, head.framing).read_to_end(&mut body)?;
        Ok((head.status, body))
    }

    #[test]
    fn each_framing_is_read() {
        let length = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef";
        assert_eq!(read(length).unwrap(), (200, b"abc".to_vec()));
        let chunked = b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nT: 1\r\n\r\n";
        assert_eq!(read(chunked).unwrap(), (404, b"abc".to_vec()));
        let closed = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(read(closed).unwrap(), (200, b"abc".to_vec()));
        let none = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(read(none).unwrap(), (204, vec![]));
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read(interim).unwrap(), (200, vec![]));
    }

    #[test]
    fn what_is_broken_is_said() {
        for (bytes, kind) in [
            (&b""[..], io::ErrorKind::UnexpectedEof),
            (b"HTTP/1.1 200 OK\r\n", io::ErrorKind::UnexpectedEof),
            (b"SSH-2.0-OpenSSH\r\n\r\n", io::ErrorKind::InvalidData),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
                io::ErrorKind::UnexpectedEof,
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
                io::ErrorKind::InvalidData,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
                io::ErrorKind::InvalidData,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
                io::ErrorKind::InvalidData,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
                io::ErrorKind::UnexpectedEof,
            ),
        ] {
            let e = read(bytes).unwrap_err();
            assert_eq!(e.kind(), kind, "{:?}: {e}", String::from_utf8_lossy(bytes));
        }
        let endless = [b"HTTP/1.1 200 OK\r\n".to_vec(), vec![b'x'; 100_000]].concat();
        assert_eq!(
            read(&endless).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    proptest! {
        #[test]
        fn chunks_come_back_together(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8)) {
            let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in &chunks {
                bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            prop_assert_eq!(read(&bytes).unwrap(), (200, chunks.concat()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &bytes[..]].concat());
        }
    }
}
