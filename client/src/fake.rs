//! A stand-in for the daemon: serves canned answers on a unix socket in a directory of its own.
//!
//! For tests only (feature `fake-daemon`): it panics when the host gives it no socket.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde::Serialize;
use serde_json::Value;

/// A request as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path and query, still encoded.
    pub target: String,
    /// Body as JSON; null when there is none.
    pub body: Value,
}

/// What to answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status and a JSON body.
    Json(u16, Value),
    /// A status and no body.
    Empty(u16),
    /// Lines, each its own chunk, then the end of the answer.
    Lines(Vec<Value>),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// Nothing, until the client goes away.
    Hang,
}

impl Reply {
    /// Status 200 and a JSON body.
    pub fn ok(body: impl Serialize) -> Reply {
        Reply::Json(200, serde_json::to_value(body).expect("encodes"))
    }

    /// A refusal as the daemon words it.
    pub fn refuse(status: u16, error: &str, retryable: bool) -> Reply {
        Reply::Json(
            status,
            serde_json::json!({ "error": error, "retryable": retryable }),
        )
    }
}

/// The stand-in; stops when dropped.
#[derive(Debug)]
pub struct FakeDaemon {
    dir: tempfile::TempDir,
    requests: Arc<Mutex<Vec<Request>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeDaemon {
    /// Starts one that asks `handler` for each answer, every request in a thread of its own.
    pub fn start<F>(handler: F) -> FakeDaemon
    where
        F: Fn(&Request) -> Reply + Send + Sync + 'static,
    {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("routerd.sock")).expect("a socket");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = {
            let (requests, stopping) = (Arc::clone(&requests), Arc::clone(&stopping));
            let handler = Arc::new(handler);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let (requests, handler) = (Arc::clone(&requests), Arc::clone(&handler));
                    let stream = stream.expect("a connection");
                    std::thread::spawn(move || {
                        // A client that goes away early is its own affair.
                        let _ = serve(stream, &requests, &*handler);
                    });
                }
            })
        };
        FakeDaemon {
            dir,
            requests,
            stopping,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("routerd.sock")
    }

    /// What was asked so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = UnixStream::connect(self.socket());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: UnixStream,
    requests: &Mutex<Vec<Request>>,
    handler: &dyn Fn(&Request) -> Reply,
) -> std::io::Result<()> {
    let Some(request) = read_request(&mut stream)? else {
        return Ok(());
    };
    requests.lock().expect("not poisoned").push(request.clone());
    match handler(&request) {
        Reply::Json(status, body) => {
            let body = serde_json::to_vec(&body)?;
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )?;
            stream.write_all(&body)
        }
        Reply::Empty(status) => {
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")
        }
        Reply::Lines(lines) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            )?;
            for line in lines {
                let text = format!("{line}\n");
                write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
            }
            write!(stream, "0\r\n\r\n")
        }
        Reply::Raw(bytes) => stream.write_all(&bytes),
        Reply::Hang => stream.read(&mut [0]).map(drop),
    }
}

fn read_request(stream: &mut UnixStream) -> std::io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 64 * 1024];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(at) = head.parse(&bytes).expect("an HTTP request") {
            let length = head
                .headers
                .iter()
                .find(|h| h.name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |h| {
                    std::str::from_utf8(h.value).unwrap().parse().unwrap()
                });
            if let Some(body) = bytes.get(at..at + length) {
                return Ok(Some(Request {
                    method: head.method.unwrap_or_default().to_owned(),
                    target: head.path.unwrap_or_default().to_owned(),
                    body: if body.is_empty() {
                        Value::Null
                    } else {
                        serde_json::from_slice(body)?
                    },
                }));
            }
        }
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&buffer[..n]);
    }
}
