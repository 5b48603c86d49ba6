//! Questions about interfaces, and orders.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage as Request;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols};

/// Bytes that the kernel says of one request.
const ANSWER: usize = 8192;

/// Bytes of the largest packet that an interface takes.
///
/// # Errors
/// There is no such interface, or the kernel refuses.
pub fn mtu(ifindex: u32) -> io::Result<u16> {
    let mut question = LinkMessage::default();
    question.header.index = ifindex;
    let answer = ask(vec![(Request::GetLink(question), 0)])?.pop();
    let attributes = match answer.transpose()?.flatten() {
        Some(Request::NewLink(link)) => link.attributes,
        _ => Vec::new(),
    };
    let mtu = attributes.into_iter().find_map(|a| match a {
        LinkAttribute::Mtu(mtu) => Some(u16::try_from(mtu).unwrap_or(u16::MAX)),
        _ => None,
    });
    mtu.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Sends requests in one message. Each is answered: by nothing, by an object or by an error.
pub(super) fn ask(requests: Vec<(Request, u16)>) -> io::Result<Vec<io::Result<Option<Request>>>> {
    let socket = Socket::new(protocols::NETLINK_ROUTE)?;
    let mut bytes = Vec::new();
    let count = requests.len();
    for (request, flags) in requests {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len(), 0);
        message.serialize(bytes.get_mut(start..).unwrap_or_default());
    }
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let mut answers = Vec::with_capacity(count);
    while answers.len() < count {
        let mut answer = Vec::with_capacity(ANSWER);
        // The kernel has answered before it gave the call back.
        socket.recv(&mut answer, libc::MSG_DONTWAIT)?;
        let answer = NetlinkMessage::deserialize(&answer).map_err(io::Error::other)?;
        answers.push(match answer.payload {
            NetlinkPayload::InnerMessage(object) => Ok(Some(object)),
            NetlinkPayload::Error(e) if e.code.is_some() => Err(e.to_io()),
            _ => Ok(None),
        });
    }
    Ok(answers)
}
