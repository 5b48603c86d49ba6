//! An interface that is replaced, since what is wanted of it is for its life.

use super::*;

#[test]
fn what_hangs_on_an_interface_that_we_replace_is_no_drift() {
    let mut b = Bench::new();
    b.device.0.lock().unwrap().port_is_for_life = true;
    b.want(state(1, Some(&[1, 2])));
    b.run(owned);
    let routes = b.kernel.state.routes.clone();
    assert_eq!(routes.len(), 2);

    let mut other = state(2, Some(&[1, 2]));
    other.tunnel.as_mut().unwrap().port = 51999;
    b.want(other);
    b.run(owned);
    assert_eq!(b.kernel.state.routes, routes);
    let device = b.device.0.lock().unwrap().state.clone().unwrap();
    assert_eq!((device.listen_port, device.peers.len()), (51999, 2));
    assert_eq!(b.core.status().drift, []);

    // One that cannot be made again at once is none either, nor what comes with it then.
    let mut other = state(3, Some(&[1, 2]));
    other.tunnel.as_mut().unwrap().port = 52000;
    b.device.0.lock().unwrap().fails = true;
    b.want(other);
    b.run(|_, _| {});
    b.device.0.lock().unwrap().fails = false;
    b.now += std::time::Duration::from_secs(60);
    b.run(|_, _| {});
    assert_eq!(b.kernel.state.routes, routes);
    assert_eq!(b.core.status().drift, []);

    // What others do is named as ever.
    let named = b.damaged(|d, _| d.state.as_mut().unwrap().fwmark = 1);
    assert_eq!(named, ["rtd.wg fwmark: changed"]);
}
