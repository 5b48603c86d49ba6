//! Two sessions wired to each other, and one against messages made by hand.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::*;

fn pair() -> (Session, Session) {
    let a = SessionConfig::new(64512, Ipv4Addr::new(1, 1, 1, 1), Some(64513));
    let mut b = SessionConfig::new(64513, Ipv4Addr::new(2, 2, 2, 2), Some(64512));
    b.passive = true;
    (Session::new(a), Session::new(b))
}

/// Gives each the messages of the other, in order, until both are quiet. What else was given is returned,
/// for each.
fn exchange(
    a: &mut Session,
    b: &mut Session,
    from_a: Vec<Output>,
    from_b: Vec<Output>,
) -> (Vec<Output>, Vec<Output>) {
    let mut others = (Vec::new(), Vec::new());
    let mut queue = VecDeque::from([(true, from_a), (false, from_b)]);
    while let Some((of_a, list)) = queue.pop_front() {
        for output in list {
            let Output::Send(bytes) = output else {
                let kept = if of_a { &mut others.0 } else { &mut others.1 };
                kept.push(output);
                continue;
            };
            let to = if of_a { &mut *b } else { &mut *a };
            let frame = frame::next(&bytes, to.max_len()).unwrap().unwrap();
            queue.push_back((!of_a, to.handle(Input::Message(frame), 0.5)));
        }
    }
    others
}

fn established() -> (Session, Session) {
    let (mut a, mut b) = pair();
    assert_eq!(a.handle(Input::Start, 0.5), [Output::Connect]);
    assert_eq!(b.handle(Input::Start, 0.5), []);
    let from_a = a.handle(Input::Connected, 0.5);
    let from_b = b.handle(Input::Connected, 0.5);
    let others = exchange(&mut a, &mut b, from_a, from_b);
    for outputs in [others.0, others.1] {
        let up = outputs.iter().filter(|o| matches!(o, Output::Up(_)));
        assert_eq!(up.count(), 1, "{outputs:?}");
        assert!(outputs.contains(&Output::Arm(Timer::Hold, Duration::from_secs(9))));
    }
    assert_eq!(
        (a.state(), b.state()),
        (State::Established, State::Established)
    );
    (a, b)
}

fn down(outputs: &[Output]) -> &Down {
    let down = outputs.iter().find_map(|o| match o {
        Output::Down(down) => Some(down),
        _ => None,
    });
    down.unwrap()
}

fn notification_in(outputs: &[Output]) -> Notification {
    let sent = outputs.iter().find_map(|o| match o {
        Output::Send(bytes) => frame::next(bytes, 4096).unwrap(),
        _ => None,
    });
    Notification::decode(sent.unwrap().body).unwrap()
}

fn message(kind: MessageType, body: &[u8]) -> Frame<'_> {
    let len = crate::wire::HEADER_LEN + body.len();
    Frame { kind, body, len }
}

#[test]
fn a_session_comes_up_keeps_alive_and_is_shut_down_with_a_reason() {
    let (mut a, mut b) = established();
    let tick = a.handle(Input::Expired(Timer::Keepalive), 1.0);
    assert!(tick.contains(&Output::Arm(Timer::Keepalive, Duration::from_secs(3))));
    let (_, heard) = exchange(&mut a, &mut b, tick, vec![]);
    assert_eq!(heard, [Output::Arm(Timer::Hold, Duration::from_secs(9))]);

    let stop = Notification::with_reason(cease::ADMIN_SHUTDOWN, "rack moves");
    let outputs = a.handle(Input::Stop(stop), 0.5);
    assert_eq!(a.state(), State::Idle);
    let (_, heard) = exchange(&mut a, &mut b, outputs, vec![]);
    assert_eq!(b.state(), State::Active, "b waits for it to come back");
    // Hard, or b would keep the routes of a neighbour that was taken out of service.
    let gone = down(&heard);
    assert_eq!(gone.keep, PerFamily::default());
    assert!(
        gone.reason.to_string().contains("hard reset: shut down"),
        "{}",
        gone.reason
    );
}

#[test]
fn silence_ends_a_session_and_its_routes_wait_for_a_restart() {
    let (mut a, _) = established();
    let outputs = a.handle(Input::Expired(Timer::Hold), 0.5);
    assert_eq!(notification_in(&outputs).code, notification::HOLD_TIMER);
    let gone = down(&outputs);
    assert_eq!(gone.keep, PerFamily { v4: true, v6: true });
    assert_eq!(gone.keep_for, Duration::from_secs(120));
    assert!(outputs.contains(&Output::Arm(Timer::Retry, Duration::from_millis(4375))));
}

#[test]
fn a_path_that_is_down_ends_a_session_and_its_routes() {
    let (mut a, _) = established();
    let outputs = a.handle(Input::BfdDown, 0.5);
    assert_eq!(notification_in(&outputs).subcode, cease::BFD_DOWN);
    assert_eq!(down(&outputs).keep, PerFamily::default());
}

#[test]
fn a_socket_that_takes_nothing_ends_a_session() {
    let (mut a, _) = established();
    let armed = a.handle(Input::Wrote { empty: false }, 0.5);
    assert_eq!(
        armed,
        [Output::Arm(Timer::SendHold, Duration::from_secs(480))]
    );
    let tick = a.handle(Input::Expired(Timer::Keepalive), 0.5);
    assert!(
        !tick.iter().any(|o| matches!(o, Output::Send(_))),
        "no longer queue"
    );
    assert_eq!(
        a.handle(Input::Wrote { empty: true }, 0.5),
        [Output::Disarm(Timer::SendHold)]
    );
    assert_eq!(a.handle(Input::Expired(Timer::SendHold), 0.5), []);
    a.handle(Input::Wrote { empty: false }, 0.5);
    let outputs = a.handle(Input::Expired(Timer::SendHold), 0.5);
    assert_eq!(
        notification_in(&outputs).code,
        notification::SEND_HOLD_TIMER
    );
}

#[test]
fn messages_out_of_place_end_the_session_with_the_state_in_the_subcode() {
    let update = message(MessageType::Update, &[0, 0, 0, 0]);
    let keepalive = message(MessageType::Keepalive, &[]);
    let (mut a, _) = pair();
    assert_eq!(
        a.handle(Input::Message(update), 0.5),
        [],
        "nothing is there to end"
    );
    a.handle(Input::Start, 0.5);
    a.handle(Input::Connected, 0.5);
    let outputs = a.handle(Input::Message(keepalive), 0.5);
    let said = notification_in(&outputs);
    assert_eq!((said.code, said.subcode), (notification::FSM, 1));
    assert!(outputs.contains(&Output::Failed(Reason::Sent(said))));

    let (mut a, b) = pair();
    a.handle(Input::Start, 0.5);
    a.handle(Input::Connected, 0.5);
    let open = open::encode(&b.config.open());
    let frame = frame::next(&open, 4096).unwrap().unwrap();
    a.handle(Input::Message(frame), 0.5);
    let said = notification_in(&a.handle(Input::Message(update), 0.5));
    assert_eq!((said.code, said.subcode), (notification::FSM, 2));

    let (mut a, _) = established();
    assert_eq!(
        a.handle(Input::Message(update), 0.5).last(),
        Some(&Output::Update)
    );
    let said = notification_in(&a.handle(Input::Message(frame), 0.5));
    assert_eq!((said.code, said.subcode), (notification::FSM, 3));
}

#[test]
fn a_wrong_as_is_said_to_both_operators() {
    let (mut a, mut b) = pair();
    b.config.local_as = 64999;
    a.handle(Input::Start, 0.5);
    b.handle(Input::Start, 0.5);
    a.handle(Input::Connected, 0.5);
    let from_b = b.handle(Input::Connected, 0.5);
    exchange(&mut a, &mut b, vec![], from_b);
    let ours = a.last_down().unwrap().to_string();
    let theirs = b.last_down().unwrap().to_string();
    assert!(
        ours.contains("we ended it: AS number is not the one"),
        "{ours}"
    );
    assert!(
        theirs.contains("the neighbour ended it: AS number"),
        "{theirs}"
    );
}

#[test]
fn a_refresh_is_asked_for_only_where_it_can_be() {
    let (mut a, mut b) = established();
    let asked = a.ask_refresh(Family::V6).unwrap();
    let (_, heard) = exchange(&mut a, &mut b, vec![Output::Send(asked)], vec![]);
    assert_eq!(heard, [Output::Refresh(Family::V6, Refresh::Request)]);
    let (idle, _) = pair();
    assert_eq!(idle.ask_refresh(Family::V4), None);
}
