//! A filter in the kernel for what this process did itself: a full table of BGP is a million notifications that
//! nobody would act on.

use std::io;

use socket2::{SockFilter, SockRef};

/// `BPF_LD | BPF_H | BPF_ABS`.
const LOAD_HALF: u16 = 0x28;
/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD_WORD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JUMP_EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// Offsets in `struct nlmsghdr`.
const KIND: u32 = 4;
const PORT: u32 = 12;

/// Drops notifications about routes that one of these ports caused.
pub(super) fn drop_routes_of(socket: &netlink_sys::Socket, ports: &[u32]) -> io::Result<()> {
    SockRef::from(socket).attach_filter(&program(ports))
}

/// The program loads in network order what the header has in that of the host.
fn program(ports: &[u32]) -> Vec<SockFilter> {
    let kind = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    let accept = || SockFilter::new(RETURN, 0, 0, u32::MAX);
    let mut program = vec![
        SockFilter::new(LOAD_HALF, 0, 0, KIND),
        SockFilter::new(JUMP_EQUAL, 2, 0, kind(libc::RTM_NEWROUTE)),
        SockFilter::new(JUMP_EQUAL, 1, 0, kind(libc::RTM_DELROUTE)),
        accept(),
        SockFilter::new(LOAD_WORD, 0, 0, PORT),
    ];
    for port in ports {
        let port = u32::from_be_bytes(port.to_ne_bytes());
        program.push(SockFilter::new(JUMP_EQUAL, 0, 1, port));
        program.push(SockFilter::new(RETURN, 0, 0, 0));
    }
    program.push(accept());
    program
}
