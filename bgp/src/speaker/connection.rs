//! One TCP connection: bytes in up to a bound, messages out up to a bound.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use bytes::Bytes;

/// Bytes that wait for the socket from which on a peer gets no more routes: they stay a set in the RIB.
const FULL: usize = 256 * 1024;
/// Bytes read at a time: a turn of one peer.
const TURN: usize = 128 * 1024;
/// Messages given to the kernel at a time.
const SLICES: usize = 64;

/// What reading came to.
#[derive(Debug)]
pub(super) enum Fill {
    /// There is something new.
    Data,
    /// Nothing yet.
    Nothing,
    /// The other side has closed.
    End,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Until when it has to be made; `None` once it is.
    pub(super) connecting: Option<Instant>,
    inbox: Vec<u8>,
    outbox: VecDeque<Bytes>,
    queued: usize,
    /// Whether the session knows that the socket is full.
    pub(super) told_full: bool,
}

impl Connection {
    /// A connection that is there, or will be until `connecting`.
    pub(super) fn new(stream: TcpStream, connecting: Option<Instant>) -> Connection {
        Connection {
            stream,
            connecting,
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            queued: 0,
            told_full: false,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Bytes that wait for the socket.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether routes can be sent.
    pub(super) fn has_room(&self) -> bool {
        self.queued < FULL
    }

    /// Appends a message to what is sent.
    pub(super) fn push(&mut self, message: &Bytes) {
        if !message.is_empty() {
            self.queued += message.len();
            self.outbox.push_back(message.clone());
        }
    }

    /// Gives the kernel what it takes. Whether it took something.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let before = self.queued;
        while !self.outbox.is_empty() {
            let slices: Vec<IoSlice<'_>> = self
                .outbox
                .iter()
                .take(SLICES)
                .map(|m| IoSlice::new(m))
                .collect();
            match self.stream.write_vectored(&slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => self.take(taken),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(self.queued < before)
    }

    fn take(&mut self, mut taken: usize) {
        self.queued = self.queued.saturating_sub(taken);
        while let Some(first) = self.outbox.front_mut() {
            if taken < first.len() {
                *first = first.slice(taken..);
                return;
            }
            taken -= first.len();
            self.outbox.pop_front();
        }
    }

    /// Reads one turn. What was left over from the last one has to be back in its place.
    pub(super) fn fill(&mut self) -> io::Result<Fill> {
        let start = self.inbox.len();
        // A message that does not fit yet is at most 64 KiB.
        self.inbox.resize(start + TURN, 0);
        let read = match self.inbox.get_mut(start..) {
            Some(room) => self.stream.read(room),
            None => Ok(0),
        };
        let got = read.as_ref().map_or(0, |n| *n);
        self.inbox.truncate(start + got);
        match read {
            Ok(0) => Ok(Fill::End),
            Ok(_) => Ok(Fill::Data),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Fill::Nothing)
            }
            Err(e) => Err(e),
        }
    }

    /// Lends the bytes that were read.
    pub(super) fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.inbox)
    }

    /// Takes them back without the first `used`.
    pub(super) fn give_back(&mut self, mut bytes: Vec<u8>, used: usize) {
        bytes.drain(..used.min(bytes.len()));
        if bytes.is_empty() && bytes.capacity() > TURN {
            bytes = Vec::new();
        }
        self.inbox = bytes;
    }

    /// Says the last words and nothing more; what still comes is read by a [`Linger`], so that no reset destroys
    /// them under way.
    pub(super) fn finish(mut self, now: Instant) -> Option<Linger> {
        let _ = self.flush();
        self.stream.shutdown(Shutdown::Write).ok()?;
        Some(Linger {
            stream: self.stream,
            until: now + Linger::TIME,
        })
    }
}

/// A connection that is over for us.
#[derive(Debug)]
pub(super) struct Linger {
    stream: TcpStream,
    pub(super) until: Instant,
}

impl Linger {
    const TIME: std::time::Duration = std::time::Duration::from_secs(2);

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads and forgets. Whether more may come.
    pub(super) fn drain(&mut self) -> bool {
        let mut bytes = [0; 16384];
        for _ in 0..16 {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(e) => return e.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        (Connection::new(stream, None), listener.accept().unwrap().0)
    }

    #[test]
    fn a_reader_that_does_not_read_fills_it_and_gets_everything_later() {
        let (mut connection, mut other) = pair();
        let message = Bytes::from((0..=255).cycle().take(4000).collect::<Vec<u8>>());
        let mut pushed = 0;
        while connection.has_room() {
            connection.push(&message);
            pushed += message.len();
            connection.flush().unwrap();
        }
        assert!(!connection.flush().unwrap(), "the socket is full");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            other.read_to_end(&mut all).map(|_| all).unwrap()
        });
        while connection.queued() > 0 {
            connection.flush().unwrap();
        }
        drop(connection);
        let all = reader.join().unwrap();
        assert_eq!(all.len(), pushed);
        assert!(all.chunks(4000).all(|part| part == message));
    }

    #[test]
    fn last_words_arrive_although_bytes_were_left_unread() {
        let (mut connection, mut other) = pair();
        other.write_all(&[7; 100_000]).unwrap();
        connection.push(&Bytes::from_static(b"last words"));
        let mut linger = connection.finish(Instant::now()).unwrap();
        let mut heard = Vec::new();
        other.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"last words");
        assert!(linger.drain(), "open until the other side closes");
        drop(other);
        while linger.drain() {}
    }
}
