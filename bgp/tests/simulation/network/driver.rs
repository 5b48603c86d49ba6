//! The driver between the speakers' cores and the network.

use super::*;

impl Network {
    pub(super) fn input(&mut self, place: Place, life: u64, side: Side, input: Input<'_>) {
        if !self.alive(place, life) {
            return;
        }
        let body = match &input {
            Input::Message(frame) => Some(frame.body.to_vec()),
            _ => None,
        };
        let jitter = self.random.jitter();
        let out = self.neighbour(place).arbiter.handle(side, input, jitter);
        self.obey(place, out, body.as_deref());
    }

    /// What a driver does.
    pub(super) fn obey(&mut self, place: Place, outputs: Vec<(Side, Output)>, body: Option<&[u8]>) {
        let (number, at) = place;
        let life = self.speakers[number].life;
        let peer = Speaker::peer_id(at);
        for (side, output) in outputs {
            match output {
                Output::Connect => self.connect(place),
                Output::Send(bytes) => {
                    if let Some(conn) = self.neighbour(place).conns.get(&side).copied() {
                        self.send(conn, place, bytes);
                    }
                }
                Output::Close => {
                    if let Some(conn) = self.neighbour(place).conns.remove(&side) {
                        let end = usize::from(side == Side::Incoming);
                        self.close(conn, end);
                    }
                }
                Output::Arm(timer, time) => {
                    let armed = self.sequence + 1;
                    self.neighbour(place).armed.insert((side, timer), armed);
                    self.later(time, Event::Timer(place, side, timer, armed, life));
                }
                Output::Disarm(timer) => {
                    self.neighbour(place).armed.remove(&(side, timer));
                }
                Output::Up(agreed) => {
                    let config = self.speakers[number].peer_config(at, &agreed);
                    self.speakers[number].rib.peer_up(peer, config);
                    self.speakers[number].deferral.up(at, &agreed);
                    let out = self.neighbour(place).helper.up(&agreed, MS * 15_000);
                    self.neighbour(place).up = Some((side, *agreed));
                    self.help(place, out);
                    // It has restarted once; the next session is an ordinary one.
                    let ordinary = session_config(number, self.neighbour(place).number, false);
                    self.neighbour(place).arbiter.set_config(&ordinary);
                }
                Output::Down(down) => {
                    self.speakers[number].rib.peer_down(peer, down.keep);
                    let out = self.neighbour(place).helper.down(&down);
                    self.neighbour(place).up = None;
                    self.help(place, out);
                }
                Output::Failed(reason) => self.count_collision(&reason),
                Output::Update => self.update(place, body.unwrap()),
                Output::Refresh(family, refresh) => {
                    let agreed = self.neighbour(place).up.clone().unwrap().1;
                    let rib = &mut self.speakers[number].rib;
                    match refresh {
                        Refresh::Request => rib.refresh(peer, family, agreed.enhanced_refresh),
                        Refresh::Begin => rib.mark_stale(peer, family),
                        Refresh::End => rib.sweep_stale(peer, family),
                    }
                }
            }
        }
        if self.speakers[number].deferral.is_over() {
            self.speakers[number].rib.set_deferred(false);
        }
        self.pump(number);
    }

    fn count_collision(&mut self, reason: &Reason) {
        if let Reason::Sent(n) = reason {
            let collision =
                n.code == notification::CEASE && n.subcode == notification::cease::COLLISION;
            self.counts.collisions += u32::from(collision);
        }
    }

    fn update(&mut self, place: Place, body: &[u8]) {
        let (number, at) = place;
        let agreed = self.neighbour(place).up.clone().unwrap().1;
        let mut scratch = Vec::new();
        let update = update::split(body, &agreed.context, &mut scratch).unwrap();
        assert_eq!(update.faults, []);
        let applied = self.speakers[number]
            .rib
            .apply(Speaker::peer_id(at), &update);
        assert_eq!((applied.faults, applied.too_many), (vec![], None));
        if let Some(family) = update.end_of_rib {
            self.speakers[number].deferral.end_of_rib(at, family);
            let out = self.neighbour(place).helper.end_of_rib(family);
            self.help(place, out);
        }
    }

    pub(super) fn help(&mut self, place: Place, outputs: Vec<HelperOutput>) {
        let (number, at) = place;
        for output in outputs {
            let armed = self.sequence + 1;
            match output {
                HelperOutput::Sweep(family) => {
                    self.speakers[number]
                        .rib
                        .sweep_stale(Speaker::peer_id(at), family);
                }
                HelperOutput::Arm(time) => {
                    let life = self.speakers[number].life;
                    self.neighbour(place).helper_armed = armed;
                    self.later(time, Event::Helper(place, armed, life));
                }
                HelperOutput::Disarm => self.neighbour(place).helper_armed = 0,
            }
        }
    }

    pub(super) fn connect(&mut self, place: Place) {
        let neighbour = self.neighbour(place);
        let other = (neighbour.number, neighbour.back);
        let end = |place: Place, side, life, open| End {
            place,
            side,
            life,
            open,
            sent: VecDeque::new(),
            last: Duration::ZERO,
        };
        let life = self.speakers[place.0].life;
        let ends = [
            end(place, Side::Outgoing, life, true),
            end(other, Side::Incoming, 0, false),
        ];
        self.conns.push(ends);
        let delay = self.delay();
        self.later(delay, Event::Accept(self.conns.len() - 1));
    }

    pub(super) fn send(&mut self, conn: ConnId, from: Place, bytes: Bytes) {
        let delay = self.delay();
        let end = usize::from(self.conns[conn][0].place != from);
        let sender = &mut self.conns[conn][end];
        sender.sent.push_back(bytes);
        sender.last = sender.last.max(self.now + delay);
        let arrives = sender.last;
        self.at(arrives, Event::Deliver(conn, 1 - end));
    }

    pub(super) fn close(&mut self, conn: ConnId, end: usize) {
        if !std::mem::replace(&mut self.conns[conn][end].open, false) {
            return;
        }
        // After what is under way. On a cut link the other side hears nothing of it.
        if !self.is_cut(conn) {
            let after = self.conns[conn][end].last.max(self.now) + MS;
            self.at(after, Event::Finished(conn, 1 - end));
        }
    }

    /// Decides, and sends what the sockets take.
    pub(super) fn pump(&mut self, number: usize) {
        let mut full = 0;
        loop {
            let mut messages = Vec::new();
            let Speaker {
                rib, neighbours, ..
            } = &mut self.speakers[number];
            let conns = &self.conns;
            let conn_of = |peer: bgp::rib::PeerId| {
                let neighbour = &neighbours[usize::from(peer.0) - 1];
                let (side, _) = neighbour.up.as_ref()?;
                neighbour.conns.get(side).copied()
            };
            let more = rib.transmit(
                |peer| {
                    let conn = conn_of(peer);
                    let fits = conn.is_some_and(|c| {
                        let end = usize::from(conns[c][0].place.0 != number);
                        conns[c][end].sent.len() < WINDOW
                    });
                    full += u32::from(!fits);
                    fits
                },
                |peer, message| messages.extend(conn_of(peer).map(|c| (c, peer, message.clone()))),
            );
            for (conn, peer, message) in messages {
                self.send(conn, (number, usize::from(peer.0) - 1), message);
            }
            if !more {
                break;
            }
        }
        self.counts.full_sockets += full;
        let rib = &mut self.speakers[number].rib;
        for family in Family::ALL {
            while !rib.kernel_changes(family, 64).is_empty() {}
        }
    }
}
