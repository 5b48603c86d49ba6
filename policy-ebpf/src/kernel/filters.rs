//! Filters of clsact: found by priority and handle, which are always the same.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use model::marks::TC_PRIORITY;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Request;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use super::hooks::Hook;
use super::rtnetlink::ask;

/// Frames of every protocol (`linux/if_ether.h`).
const ETH_P_ALL: u16 = 3;

/// Puts programs to an interface, each in the place of the one that a filter of ours has there.
///
/// # Errors
/// `ENOENT`: the kernel has no clsact, or no filters that are programs.
pub(super) fn attach(ifindex: u32, programs: &[(Hook, BorrowedFd<'_>)]) -> io::Result<()> {
    let mut requests = vec![(clsact(ifindex), NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK)];
    for (hook, program) in programs {
        let request = Request::NewTrafficFilter(with_program(ifindex, *hook, *program));
        requests.push((request, NLM_F_CREATE | NLM_F_ACK));
    }
    let mut answers = ask(requests)?.into_iter();
    match answers.next() {
        Some(Err(e)) if e.raw_os_error() == Some(libc::EEXIST) => {}
        Some(first) => drop(first?),
        None => {}
    }
    answers.try_for_each(|answer| answer.map(drop))
}

/// Takes our filter away from a hook. There may be none, nor an interface.
pub(super) fn detach(ifindex: u32, hook: Hook) -> io::Result<()> {
    let request = Request::DelTrafficFilter(ours(ifindex, hook));
    let answers = ask(vec![(request, NLM_F_ACK)])?;
    answers.into_iter().try_for_each(|answer| match answer {
        Err(e) if is_nothing(&e) => Ok(()),
        answer => answer.map(drop),
    })
}

/// Whether our filter is at a hook.
pub(super) fn is_there(ifindex: u32, hook: Hook) -> io::Result<bool> {
    let request = Request::GetTrafficFilter(ours(ifindex, hook));
    match ask(vec![(request, 0)])?.pop() {
        Some(Ok(Some(Request::NewTrafficFilter(_)))) => Ok(true),
        Some(Err(e)) if is_nothing(&e) => Ok(false),
        Some(Err(e)) => Err(e),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// No filter, no clsact, no interface.
fn is_nothing(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)
    )
}

fn message(ifindex: u32) -> TcMessage {
    TcMessage::with_index(i32::try_from(ifindex).unwrap_or_default())
}

fn clsact(ifindex: u32) -> Request {
    let mut m = message(ifindex);
    m.header.parent = TcHandle::CLSACT;
    m.header.handle = TcHandle {
        minor: 0,
        ..TcHandle::CLSACT
    };
    m.attributes.push(TcAttribute::Kind("clsact".to_owned()));
    Request::NewQueueDiscipline(m)
}

fn ours(ifindex: u32, hook: Hook) -> TcMessage {
    let mut m = message(ifindex);
    m.header.parent = TcHandle {
        minor: match hook {
            Hook::FromWire => TcHandle::MIN_INGRESS,
            Hook::ToWire => TcHandle::MIN_EGRESS,
        },
        ..TcHandle::CLSACT
    };
    m.header.handle = TcHandle {
        major: 0,
        minor: TC_PRIORITY,
    };
    m.header.info = (u32::from(TC_PRIORITY) << 16) | u32::from(ETH_P_ALL.to_be());
    m
}

fn with_program(ifindex: u32, hook: Hook, program: BorrowedFd<'_>) -> TcMessage {
    let mut m = ours(ifindex, hook);
    let options = [
        TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
        TcFilterBpfOption::ProgName(hook.program().to_owned()),
        // What the program says is done; no actions are asked for.
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    let kind = TcFilterBpf::KIND.to_owned();
    let options = options.into_iter().map(TcOption::Bpf).collect();
    m.attributes = vec![TcAttribute::Kind(kind), TcAttribute::Options(options)];
    m
}
