//! A tunnel as a device that can be asked and told, for [`crate::uapi`].

use std::io;

use super::control::Control;
use super::worker::now;
use super::{Sockets, Tunnel};
use crate::control::{DeviceState, SetRequest};
use crate::uapi::DeviceControl;

impl DeviceControl for Tunnel {
    fn get(&self) -> io::Result<DeviceState> {
        self.call(|c| DeviceState {
            listen_port: c.port().unwrap_or_default(),
            fwmark: c.mark(),
            ..c.device.state(now())
        })
        .map_err(io::Error::other)
    }

    /// What may be refused comes first, so that nothing is done by halves.
    fn set(&self, request: SetRequest) -> io::Result<()> {
        let done = self.call(move |c| {
            take_port(c, request.listen_port)?;
            if let Some(mark) = request.fwmark.filter(|mark| *mark != c.mark()) {
                c.set_mark(mark)?;
            }
            Ok(c.device.configure(now(), &request)?)
        });
        done.map_err(io::Error::other)?
    }
}

/// Zero asks for any port: it has one.
fn take_port(control: &mut Control, port: Option<u16>) -> io::Result<()> {
    match port.filter(|port| *port != 0 && Some(*port) != control.port()) {
        Some(port) => {
            let sockets = Sockets::open(port, control.queues.len())?;
            control.rebind(sockets)
        }
        None => Ok(()),
    }
}
