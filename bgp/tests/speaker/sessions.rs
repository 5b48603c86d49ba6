//! Two speakers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::NextHop;
use bgp::rib::Stance;
use bgp::rib::filter::{Filter, MatchOperator, PrefixMatch, Rule};
use bgp::speaker::{Goodbye, RouteQuery, View};

use model::bgp::PoolGuard;

use crate::rig::{next_hop, pair, until, via};

#[test]
fn routes_go_both_ways_and_into_the_kernel() {
    let (mut a, mut b) = pair();
    a.start();
    b.start();
    a.announce(&["10.1.0.0/24", "10.1.1.0/24"]);
    b.announce(&["10.2.0.0/24"]);
    until(|| a.learnt(), |l| *l == ["10.2.0.0/24"]);
    until(|| b.learnt(), |l| *l == ["10.1.0.0/24", "10.1.1.0/24"]);
    let installed = until(|| a.table.routes.lock().unwrap().clone(), |t| t.len() == 1);
    assert_eq!(installed[&"10.2.0.0/24".parse().unwrap()], [via(b.address)]);
    let heard = RouteQuery::new(View::Advertised("b".to_owned()));
    let heard = a.speaker().routes(heard).unwrap().routes;
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0].attributes.as_path, [a.asn]);
    assert_eq!(heard[0].next_hop, next_hop(a.address));
    // One that is not announced any more goes, the other stays.
    a.announce(&["10.1.1.0/24"]);
    until(|| b.learnt(), |l| *l == ["10.1.1.0/24"]);
    until(|| b.table.len(), |n| *n == 1);
}

#[test]
fn a_listing_goes_page_by_page_and_misses_nothing() {
    let (mut a, mut b) = pair();
    // The loopback interface has none that could be told.
    a.config.peers.get_mut("b").unwrap().own_v6 = Some(NextHop::V6 {
        global: "2001:db8::1".parse().unwrap(),
        link_local: None,
    });
    a.start();
    b.start();
    let four = (0..500).map(|n| format!("10.1.{}.{}/32", n / 250, n % 250));
    let six = (0..100).map(|n| format!("2001:db8:{n:x}::/48"));
    let all: Vec<String> = four.chain(six).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    a.announce(&all);
    let total = |b: &crate::rig::Node| {
        let routes = b.status("a").routes;
        routes.v4.received + routes.v6.received
    };
    until(|| total(&b), |n| *n == 600);
    for view in [View::Received("a".to_owned()), View::Best] {
        let mut query = RouteQuery {
            limit: 50,
            ..RouteQuery::new(view)
        };
        let (mut found, mut pages) = (std::collections::BTreeSet::new(), 0);
        loop {
            let page = b.speaker().routes(query.clone()).unwrap();
            assert!(page.routes.len() < 128, "{}", page.routes.len());
            let new = page.routes.into_iter().map(|r| r.prefix.to_string());
            found.extend(new);
            pages += 1;
            query.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!((found.len(), pages > 4), (600, true));
    }
    // What the other side told, too; and one prefix is found without a look at the others.
    let told = RouteQuery {
        family: Some(model::Family::V6),
        ..RouteQuery::new(View::Advertised("b".to_owned()))
    };
    let told = a.speaker().routes(told).unwrap();
    assert_eq!((told.routes.len(), told.next), (100, None));
    let one = RouteQuery {
        prefix: "10.1.0.7/32".parse().ok(),
        ..RouteQuery::new(View::All)
    };
    assert_eq!(b.speaker().routes(one).unwrap().routes.len(), 1);
}

#[test]
fn a_shutdown_says_why_and_a_peer_taken_away_leaves_nothing() {
    let (mut a, mut b) = pair();
    a.start();
    b.start();
    b.announce(&["10.2.0.0/24"]);
    until(|| a.learnt(), |l| l.len() == 1);
    b.config.peers.get_mut("a").unwrap().shutdown = Some("rack 7 moves".to_owned());
    b.configure();
    until(|| a.words("b"), |w| w.contains("\"rack 7 moves\""));
    until(|| a.table.len(), |n| *n == 0);
    b.config.peers.get_mut("a").unwrap().shutdown = None;
    b.configure();
    until(|| a.table.len(), |n| *n == 1);
    a.config.peers.clear();
    a.configure();
    until(|| a.table.len(), |n| *n == 0);
    until(
        || b.words("a"),
        |w| w.contains("removed from the configuration"),
    );
    assert_eq!(a.speaker().peers().unwrap(), []);
}

#[test]
fn a_new_filter_changes_routes_and_not_the_session() {
    let (mut a, mut b) = pair();
    a.start();
    b.start();
    a.announce(&["10.1.0.0/24", "10.1.1.0/24"]);
    until(|| b.learnt(), |l| l.len() == 2);
    let refuse = |prefix: &str| {
        let rule = Rule {
            accept: false,
            prefix: Some(PrefixMatch {
                cidr: prefix.parse().unwrap(),
                operator: MatchOperator::Equal,
                min_len: None,
                max_len: None,
            }),
            ..Rule::default()
        };
        Some(Arc::new(Filter { rules: vec![rule] }))
    };
    // Ours at export, then theirs at import.
    a.config.peers.get_mut("b").unwrap().export = refuse("10.1.0.0/24");
    a.configure();
    until(|| b.learnt(), |l| *l == ["10.1.1.0/24"]);
    b.config.peers.get_mut("a").unwrap().import.filter = refuse("10.1.1.0/24");
    b.configure();
    until(|| b.table.len(), |n| *n == 0);
    let received = RouteQuery::new(View::Received("a".to_owned()));
    let received = b.speaker().routes(received).unwrap().routes;
    assert!(received.len() == 1 && received[0].filtered, "{received:?}");
    a.config.peers.get_mut("b").unwrap().export = None;
    a.configure();
    until(|| b.learnt(), |l| *l == ["10.1.0.0/24"]);
    assert_eq!((a.status("b").flaps, b.status("a").flaps), (0, 0));
}

#[test]
fn a_new_guard_takes_routes_out_and_lets_them_in_again() {
    let (mut a, mut b) = pair();
    let guard = |importable: &[&str]| {
        Arc::new(PoolGuard {
            pools: ["10.1.0.0/16".parse().unwrap()].into(),
            importable: importable.iter().map(|c| c.parse().unwrap()).collect(),
            ..PoolGuard::default()
        })
    };
    b.config.guard = guard(&["10.1.0.0/24"]);
    a.start();
    b.start();
    a.announce(&["10.1.0.0/24", "10.1.1.0/24"]);
    until(|| b.table.len(), |n| *n == 1);
    let received = || {
        let of = RouteQuery::new(View::Received("a".to_owned()));
        b.speaker().routes(of).unwrap().routes
    };
    let received = until(received, |r| r.len() == 2);
    let refused: Vec<_> = received.iter().map(|r| (r.filtered, r.stance)).collect();
    let expected = [(false, Stance::Importable), (true, Stance::Refused)];
    assert_eq!(refused, expected);
    assert_eq!(b.status("a").routes.v4.guarded, 1);
    b.config.guard = guard(&["10.1.0.0/24", "10.1.1.0/24"]);
    b.configure();
    until(|| b.table.len(), |n| *n == 2);
    assert_eq!((a.status("b").flaps, b.status("a").flaps), (0, 0));
}

#[test]
fn other_peers_do_not_notice_a_change() {
    let (mut a, mut b) = pair();
    let mut c = crate::rig::Node::new(64514);
    let to_a = c.peer(a.address, a.asn);
    c.config.peers.insert("a".to_owned(), to_a);
    let to_c = a.peer(c.address, c.asn);
    a.config.peers.insert("c".to_owned(), to_c);
    for node in [&mut a, &mut b, &mut c] {
        node.start();
    }
    until(|| (a.is_up("b"), a.is_up("c")), |up| *up == (true, true));
    a.config.peers.get_mut("b").unwrap().session.hold.offered = 30;
    a.configure();
    let agreed = until(|| a.status("b").agreed, Option::is_some);
    // The shorter one counts: the other side still offers 9 s.
    assert_eq!(agreed.unwrap().hold.as_secs(), 9);
    until(|| a.status("b").flaps, |n| *n == 1);
    assert_eq!((a.status("c").flaps, c.status("a").flaps), (0, 0));
    let words = until(|| b.words("a"), |w| !w.is_empty());
    assert!(words.contains("configuration changed"), "{words}");
}

#[test]
fn routes_stay_while_a_peer_restarts() {
    let (mut a, mut b) = pair();
    a.start();
    b.start();
    b.announce(&["10.2.0.0/24", "10.2.1.0/24"]);
    until(|| a.table.len(), |n| *n == 2);
    b.speaker.take().unwrap().stop(Goodbye::Restart);
    until(|| a.is_up("b"), |up| !up);
    assert_eq!(a.table.len(), 2, "kept");
    b.config.restarted = true;
    b.start();
    // One of the two does not come back.
    b.announce(&["10.2.0.0/24"]);
    until(|| a.learnt(), |l| *l == ["10.2.0.0/24"]);
    until(|| a.table.len(), |n| *n == 1);
    // After a shutdown nothing is kept.
    let goodbye = Goodbye::Shutdown("for good".to_owned());
    b.speaker.take().unwrap().stop(goodbye);
    until(|| a.table.len(), |n| *n == 0);
    assert!(a.words("b").contains("for good"), "{}", a.words("b"));
}

#[test]
fn after_a_restart_who_is_there_does_not_wait_for_who_is_away() {
    let (mut a, mut b) = pair();
    let away = b.peer(crate::rig::address(), 64514);
    b.config.peers.insert("away".to_owned(), away);
    a.start();
    a.announce(&["10.1.0.0/24"]);
    b.config.restarted = true;
    b.config.absent = Duration::from_millis(500);
    b.config.deferral = Duration::from_secs(6);
    let start = Instant::now();
    b.start();
    b.announce(&["10.2.0.0/24"]);
    until(|| b.is_up("a"), |up| *up);
    until(|| a.learnt(), |l| *l == ["10.2.0.0/24"]);
    until(|| b.table.len(), |n| *n == 1);
    // What the other one said before may still come again.
    assert!(!b.table.is_settled(), "after {:?}", start.elapsed());
    assert!(start.elapsed() >= b.config.absent);
    until(|| b.table.is_settled(), |settled| *settled);
    assert!(start.elapsed() >= b.config.deferral);
}

#[test]
fn too_many_prefixes_end_one_session_and_it_stays_down() {
    let (mut a, mut b) = pair();
    a.config.peers.get_mut("b").unwrap().import.max_prefixes.v4 = Some(2);
    a.start();
    b.start();
    b.announce(&["10.2.0.0/24", "10.2.1.0/24"]);
    until(|| a.table.len(), |n| *n == 2);
    b.announce(&["10.2.0.0/24", "10.2.1.0/24", "10.2.2.0/24"]);
    until(|| a.status("b").held_back, Option::is_some);
    assert!(a.words("b").contains("more prefixes than allowed"));
    until(
        || b.words("a"),
        |w| w.contains("more prefixes than allowed"),
    );
    until(|| a.table.len(), |n| *n == 0);
    // An operator who allows more need not wait.
    a.config.peers.get_mut("b").unwrap().import.max_prefixes.v4 = Some(3);
    a.configure();
    a.speaker().reset("b", "more allowed").unwrap();
    until(|| a.table.len(), |n| *n == 3);
}
