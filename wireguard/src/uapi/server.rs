//! The socket that a userspace device is configured by. Only root may use it: what it tells includes
//! the private key.

use std::fs;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, shutdown, socket,
};
use nix::sys::stat::{Mode, fchmod};

use super::lines::Lines;
use super::{Request, RequestParser, UapiError, render_state, render_status};
use crate::control::{DeviceState, SetRequest};

/// Clients served at a time; a further one is closed at once.
const CLIENTS: usize = 16;
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A device that can be asked and told. Called by several threads; answers should come soon.
pub trait DeviceControl: Send + Sync {
    /// What the device is now.
    ///
    /// # Errors
    /// When it does not answer. The error number goes to the client.
    fn get(&self) -> io::Result<DeviceState>;

    /// Carries out all of a request.
    ///
    /// # Errors
    /// When something of it cannot be done. The error number goes to the client.
    fn set(&self, request: SetRequest) -> io::Result<()>;
}

/// A socket that clients can connect to already, though nobody answers yet: what needs privileges is
/// done.
#[derive(Debug)]
pub struct Listener {
    path: PathBuf,
    inode: u64,
    listener: Arc<UnixListener>,
}

impl Listener {
    /// Makes `directory/interface.sock`, in place of a socket that a dead process left.
    ///
    /// # Errors
    /// When another process serves that socket, or it cannot be made.
    pub fn bind(directory: &Path, interface: &str) -> Result<Listener, UapiError> {
        let path = directory.join(format!("{interface}.sock"));
        let failed = |operation| UapiError::io(operation, path.display());
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private
            .create(directory)
            .map_err(failed("make the directory of"))?;
        if UnixStream::connect(&path).is_ok() {
            let source = io::ErrorKind::AddrInUse.into();
            return Err(failed("take over from another process")(source));
        }
        let listener = Arc::new(listen_at(&path).map_err(failed("listen on"))?);
        let inode = fs::metadata(&path).map_err(failed("look at"))?.ino();
        Ok(Listener {
            path,
            inode,
            listener,
        })
    }

    /// Answers for `control`.
    ///
    /// # Errors
    /// When threads run out.
    pub fn serve(self, control: Arc<dyn DeviceControl>) -> Result<Server, UapiError> {
        let accepting = Arc::clone(&self.listener);
        let thread = std::thread::Builder::new().name("uapi".to_owned());
        let thread = thread.spawn(move || accept(&accepting, &control));
        let failed = UapiError::io("start a thread for", self.path.display());
        Ok(Server {
            thread: Some(thread.map_err(failed)?),
            at: self,
        })
    }
}

/// A socket and the threads that serve it; dropping it ends them and removes the socket.
#[derive(Debug)]
pub struct Server {
    at: Listener,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `control` on `directory/interface.sock`.
    ///
    /// # Errors
    /// As [`Listener::bind`] and [`Listener::serve`].
    pub fn start(
        directory: &Path,
        interface: &str,
        control: Arc<dyn DeviceControl>,
    ) -> Result<Server, UapiError> {
        Listener::bind(directory, interface)?.serve(control)
    }

    /// Where clients find it.
    pub fn path(&self) -> &Path {
        &self.at.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Listener {
            path,
            inode,
            listener,
        } = &self.at;
        // The socket of a successor stays.
        if fs::metadata(path).is_ok_and(|m| m.ino() == *inode) {
            let _ = fs::remove_file(path);
        }
        // Wakes the thread that accepts.
        let _ = shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket that nobody but root could connect to at any moment, put in place in one step.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let fd: OwnedFd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // The file takes over the mode that the socket has when it is bound.
    fchmod(fd.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(&draft)?)?;
    // Who asks a process that hangs waits here, and can still tell that it is there.
    listen(&fd, Backlog::MAXCONN)?;
    fs::rename(&draft, path)?;
    Ok(UnixListener::from(fd))
}

fn accept(listener: &UnixListener, control: &Arc<dyn DeviceControl>) {
    let mut clients: Vec<(UnixStream, JoinHandle<()>)> = Vec::new();
    for stream in listener.incoming() {
        clients.retain(|(_, thread)| !thread.is_finished());
        let stream = match stream {
            Ok(stream) => stream,
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => break,
            Err(e) => {
                tracing::warn!("a client of the WireGuard socket was lost: {e}");
                // Out of descriptors: it will not be better at once.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if clients.len() >= CLIENTS {
            tracing::warn!("more than {CLIENTS} clients at the WireGuard socket: one is refused");
            continue;
        }
        match serve_on_thread(stream, Arc::clone(control)) {
            Ok(client) => clients.push(client),
            Err(e) => tracing::warn!("a client of the WireGuard socket was lost: {e}"),
        }
    }
    for (stream, thread) in clients {
        let _ = stream.shutdown(Shutdown::Both);
        let _ = thread.join();
    }
}

fn serve_on_thread(
    stream: UnixStream,
    control: Arc<dyn DeviceControl>,
) -> io::Result<(UnixStream, JoinHandle<()>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let ours = stream.try_clone()?;
    let serve = move || {
        if let Err(e) = serve(&stream, &*control) {
            tracing::debug!("a client of the WireGuard socket: {e}");
        }
        // The copy that the accepting thread has would keep the client waiting.
        let _ = stream.shutdown(Shutdown::Both);
    };
    let thread = std::thread::Builder::new().name("uapi-client".to_owned());
    Ok((ours, thread.spawn(serve)?))
}

/// Answers requests until the client goes or makes no sense.
fn serve(mut stream: &UnixStream, control: &dyn DeviceControl) -> io::Result<()> {
    let mut lines = Lines::new(stream);
    let mut parser = RequestParser::default();
    while let Some(line) = lines.next()? {
        match parser.line(line) {
            Ok(None) => {}
            Ok(Some(request)) => answer(stream, control, request)?,
            Err(e) => {
                stream.write_all(render_status(nix::libc::EINVAL).as_bytes())?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, e));
            }
        }
    }
    Ok(())
}

fn answer(
    mut stream: &UnixStream,
    control: &dyn DeviceControl,
    request: Request,
) -> io::Result<()> {
    let done = match request {
        Request::Get => match control.get() {
            Ok(state) => return stream.write_all(render_state(&state).as_bytes()),
            Err(e) => Err(e),
        },
        Request::Set(changes) => control.set(changes),
    };
    let errno = done.err().map_or(0, |e| errno(&e));
    stream.write_all(render_status(errno).as_bytes())
}

fn errno(e: &io::Error) -> i32 {
    e.raw_os_error().unwrap_or(match e.kind() {
        io::ErrorKind::InvalidInput => nix::libc::EINVAL,
        io::ErrorKind::OutOfMemory => nix::libc::ENOMEM,
        io::ErrorKind::TimedOut => nix::libc::ETIMEDOUT,
        _ => nix::libc::EIO,
    })
}
