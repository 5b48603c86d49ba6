//! While nobody knows whether to encrypt.

use super::*;

/// What is wanted while nobody knows whether to encrypt.
fn barred(generation: u64) -> NodeState {
    let mut state = state(generation, None);
    (state.partial, state.barred) = (true, true);
    let unreachable = || model::kernel::Route {
        target: RouteTarget::Unreachable,
        ..route(None, "eth0")
    };
    let last = model::kernel::RouteKey {
        metric: marks::LAST_METRIC,
        ..key("10.0.0.0/16")
    };
    for key in [key("10.0.1.0/26"), key("10.0.2.0/26"), last] {
        state.kernel.routes.insert(key, unreachable());
    }
    state
}

#[test]
fn an_unread_configuration_bars_all_after_a_boot_and_keeps_open_what_was() {
    let mut b = Bench::new();
    for generation in 1..3 {
        b.want(barred(generation));
        b.run(|_, _| {});
        let mut targets = b.kernel.state.routes.values().map(|r| &r.target);
        assert!(targets.all(|t| *t == RouteTarget::Unreachable));
        assert_eq!(b.kernel.state.routes.len(), 3);
    }

    let mut b = Bench::new();
    let mut before = state(1, None);
    let clear = route(Some("192.0.2.11"), "eth0");
    before
        .kernel
        .routes
        .insert(key("10.0.1.0/26"), clear.clone());
    b.want(before);
    b.run(|_, _| {});
    b.want(barred(2));
    b.run(|_, _| {});
    let routes = &b.kernel.state.routes;
    assert_eq!(routes[&key("10.0.1.0/26")], clear);
    assert_eq!(routes[&key("10.0.2.0/26")].target, RouteTarget::Unreachable);
    assert_eq!(routes.len(), 2, "nothing else is caught: {routes:?}");
}

#[test]
fn an_unread_configuration_does_not_open_what_is_encrypted() {
    let mut b = Bench::new();
    b.want(state(1, Some(&[1])));
    b.run(owned);
    let before = b.kernel.state.routes.clone();
    // Without the configuration it looks as if nothing were to be encrypted.
    let mut partial = state(2, None);
    partial.partial = true;
    let clear = route(Some("192.0.2.11"), "eth0");
    partial.kernel.routes.insert(key("10.0.1.0/26"), clear);
    b.want(partial);
    b.run(|_, _| {});
    assert_eq!(b.kernel.state.routes, before);
    assert!(b.kernel.links.contains_key(&name(marks::WIREGUARD)));
    assert_eq!(
        b.device
            .0
            .lock()
            .unwrap()
            .state
            .as_ref()
            .unwrap()
            .peers
            .len(),
        1
    );
}
