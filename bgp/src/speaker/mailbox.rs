//! A queue into a thread that waits in `poll`.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};

/// Puts messages into the queue. Whoever does waits for an answer before the next one or is as rare as changes of
/// a BFD session, so that the queue needs no bound.
pub(super) struct Sender<T> {
    queue: mpsc::Sender<T>,
    bell: Arc<UnixStream>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender {
            queue: self.queue.clone(),
            bell: Arc::clone(&self.bell),
        }
    }
}

impl<T> Sender<T> {
    /// Whether the thread is still there.
    pub(super) fn send(&self, message: T) -> bool {
        let sent = self.queue.send(message).is_ok();
        // A full socket rings as well.
        let _ = (&*self.bell).write(&[0]);
        sent
    }
}

/// All senders are gone, and with the last of them the bell has hung up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone;

/// The thread's end.
pub(super) struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    bell: UnixStream,
}

impl<T> Receiver<T> {
    /// What to poll for reading.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Stops the bell: call it before the queue is emptied.
    pub(super) fn hush(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.bell).read(&mut bytes), Ok(n) if n > 0) {}
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    ///
    /// When all senders are gone.
    pub(super) fn take(&self) -> Result<Option<T>, Gone> {
        match self.queue.try_recv() {
            Ok(message) => Ok(Some(message)),
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => Err(Gone),
        }
    }
}

/// A new queue.
pub(super) fn mailbox<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (rings, hears) = UnixStream::pair()?;
    rings.set_nonblocking(true)?;
    hears.set_nonblocking(true)?;
    let (sender, receiver) = mpsc::channel();
    let sender = Sender {
        queue: sender,
        bell: Arc::new(rings),
    };
    let receiver = Receiver {
        queue: receiver,
        bell: hears,
    };
    Ok((sender, receiver))
}
