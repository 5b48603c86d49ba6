//! The socket of a device, used by our client and by the `wg` tool.

#![allow(clippy::unwrap_used, clippy::panic)] // a failed test panics

mod socket;
mod tool;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wireguard::control::{DeviceState, SetRequest};
use wireguard::device::DeviceConfig;
use wireguard::keys::PrivateKey;
use wireguard::uapi::DeviceControl;
use wireguard::{Device, Entropy, Now, Time};

/// A device that nothing drives, with a port and a mark.
struct Fake(Mutex<(Device, DeviceState)>);

/// Other bytes every time, as names of handshakes must differ.
struct Counter(u32);

impl Entropy for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 += 1;
        for (byte, number) in bytes.iter_mut().zip(self.0.to_le_bytes().iter().cycle()) {
            *byte = *number;
        }
    }
}

const NOW: Now = Now {
    mono: Time::ZERO,
    unix: Duration::from_secs(1_800_000_000),
};

impl Fake {
    fn new() -> Arc<Fake> {
        let config = DeviceConfig::new(PrivateKey::new([1; 32]));
        let device = Device::new(config, Box::new(Counter(0)));
        Arc::new(Fake(Mutex::new((device, DeviceState::default()))))
    }
}

impl DeviceControl for Fake {
    fn get(&self) -> io::Result<DeviceState> {
        let inner = self.0.lock().unwrap();
        let mut state = inner.0.state(NOW);
        (state.listen_port, state.fwmark) = (inner.1.listen_port, inner.1.fwmark);
        Ok(state)
    }

    fn set(&self, request: SetRequest) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if request.listen_port == Some(666) {
            return Err(io::Error::from_raw_os_error(98)); // EADDRINUSE
        }
        inner.1.listen_port = request.listen_port.unwrap_or(inner.1.listen_port);
        inner.1.fwmark = request.fwmark.unwrap_or(inner.1.fwmark);
        Ok(inner.0.configure(NOW, &request)?)
    }
}
