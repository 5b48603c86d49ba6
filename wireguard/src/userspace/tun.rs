//! The tunnel interface: units of up to 64 KB in both directions.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::coalesce::{Allowed, MAX_PACKETS, Unit};
use super::offload::{OFFLOAD_LEN, Offload};
use super::sys;

/// What the kernel may leave to us, best first: the second is for kernels before 6.2.
const OFFLOADS: [(libc::c_uint, bool); 2] = {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    [
        (tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6, true),
        (tcp, false),
    ]
};

/// Units that wait for us, as many as wait for a peer in the kernel's WireGuard. The default of 500 is
/// what a few thousand packets a second come to while a busy machine lets us wait.
const QUEUE_LEN: libc::c_int = 1024;

/// How to make or join an interface.
#[derive(Clone, Debug)]
pub struct TunOptions {
    /// Its name; at most 15 bytes. `%d` in it is replaced by a free number.
    pub name: String,
    /// Whether it stays when the last descriptor is closed.
    pub persistent: bool,
    /// Whether more than one queue will be attached. All queues of one interface say the same.
    pub multi_queue: bool,
}

/// One queue of a tunnel interface.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    allowed: Allowed,
}

impl Tun {
    /// Makes the interface, or joins the one of that name.
    ///
    /// # Errors
    /// Without the right to, with a name that is too long, or when the interface is another kind.
    pub fn open(options: &TunOptions) -> io::Result<Tun> {
        let mut name = [0; libc::IFNAMSIZ];
        let bytes = options.name.as_bytes();
        name.get_mut(..bytes.len())
            .filter(|place| place.len() < libc::IFNAMSIZ)
            .ok_or_else(|| {
                let message = format!("interface name {:?}: longer than 15 bytes", options.name);
                io::Error::new(io::ErrorKind::InvalidInput, message)
            })?
            .copy_from_slice(bytes);
        let mut flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if options.multi_queue {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        // The kernel reads the flags as unsigned.
        let flags = u16::try_from(flags).unwrap_or(0).cast_signed();
        let name = sys::tun_attach(file.as_fd(), name, flags)?;
        // Any socket of this network namespace will do.
        let longer = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .and_then(|socket| sys::set_queue_len(socket.as_fd(), name, QUEUE_LEN));
        if let Err(error) = longer {
            tracing::debug!(interface = options.name, %error, "the queue keeps its length");
        }
        if options.persistent {
            sys::tun_persist(file.as_fd(), true)?;
        }
        Tun::new(file.into())
    }

    /// A queue that somebody else has attached, with `IFF_TUN`, `IFF_NO_PI` and `IFF_VNET_HDR`.
    ///
    /// # Errors
    /// When the descriptor is no such thing.
    pub fn new(fd: OwnedFd) -> io::Result<Tun> {
        let (name, flags) = sys::tun_attached(fd.as_fd())?;
        let flags = libc::c_int::from(flags.cast_unsigned());
        let needed = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if flags & needed != needed {
            let message = "a TUN descriptor without IFF_TUN, IFF_NO_PI and IFF_VNET_HDR";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let len = libc::c_int::try_from(OFFLOAD_LEN).unwrap_or(0);
        sys::tun_header_len(fd.as_fd(), len)?;
        let mut udp = false;
        let mut result = Ok(());
        for (features, has_udp) in OFFLOADS {
            udp = has_udp;
            result = sys::tun_offload(fd.as_fd(), features);
            if result.is_ok() {
                break;
            }
        }
        result?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        set_nonblocking(&fd)?;
        Ok(Tun {
            file: File::from(fd),
            name: String::from_utf8_lossy(name).into_owned(),
            allowed: Allowed { tcp: true, udp },
        })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The descriptor, to attach elsewhere.
    pub fn into_fd(self) -> OwnedFd {
        self.file.into()
    }

    /// Another handle of the same queue.
    pub(super) fn try_clone(&self) -> io::Result<Tun> {
        Ok(Tun {
            file: self.file.try_clone()?,
            name: self.name.clone(),
            allowed: self.allowed,
        })
    }

    /// Which units may be written.
    pub(super) fn allowed(&self) -> Allowed {
        self.allowed
    }

    /// Reads a unit into `buffer`: its description, and its bytes in the buffer. `None` for one that
    /// was not asked for.
    pub(super) fn read<'b>(
        &self,
        buffer: &'b mut [u8],
    ) -> io::Result<Option<(Offload, &'b mut [u8])>> {
        let len = (&self.file).read(buffer)?;
        let unit = buffer
            .get_mut(..len)
            .and_then(|b| b.split_first_chunk_mut());
        Ok(unit.and_then(|(header, unit)| Some((Offload::decode(*header)?, unit))))
    }

    /// Writes a unit. When the kernel does not take one of its kind, it is written packet by packet,
    /// and no other is built.
    pub(super) fn write(&mut self, unit: &Unit<'_, '_>) -> io::Result<()> {
        let result = self.write_whole(unit);
        let refused = |e: &io::Error| e.raw_os_error() == Some(libc::EINVAL);
        if unit.skip == 0 || !result.as_ref().is_err_and(refused) {
            return result;
        }
        tracing::warn!(interface = self.name, kind = ?unit.offload.gso, "the kernel takes no such units: writing single packets");
        match unit.offload.gso {
            super::offload::Gso::Udp => self.allowed.udp = false,
            _ => self.allowed.tcp = false,
        }
        for packet in unit.packets {
            self.write_packet(packet)?;
        }
        Ok(())
    }

    fn write_whole(&self, unit: &Unit<'_, '_>) -> io::Result<()> {
        if let [packet] = unit.packets {
            return self.write_packet(packet);
        }
        let header = unit.offload.encode();
        let mut slices = [IoSlice::new(&[]); MAX_PACKETS + 2];
        slices[0] = IoSlice::new(&header);
        slices[1] = IoSlice::new(unit.headers);
        let bodies = unit.packets.iter().filter_map(|p| p.get(unit.skip..));
        for (slice, body) in slices[2..].iter_mut().zip(bodies) {
            *slice = IoSlice::new(body);
        }
        let slices = slices.get(..2 + unit.packets.len()).unwrap_or(&slices);
        (&self.file).write_vectored(slices).map(drop)
    }

    fn write_packet(&self, packet: &[u8]) -> io::Result<()> {
        let header = Offload::default().encode();
        let slices = [IoSlice::new(&header), IoSlice::new(packet)];
        (&self.file).write_vectored(&slices).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
