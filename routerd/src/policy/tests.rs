//! The owner with a kernel that only remembers.

mod barrier;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use model::api::Health;
use model::kernel::Mac;
use model::resources::{PolicySpec, PolicyType};
use model::{Object, manifest};
use policy_ebpf::common::event::{Counter, CounterKey};
use policy_ebpf::kernel::{Counted, First, Loaded};

use super::*;
use crate::gone::Gone;

/// What a kernel was told.
#[derive(Debug, PartialEq)]
enum Told {
    Apply,
    Attach(String, Vec<String>),
    Detach(String, u32),
    TakeOver,
    Configure(bool),
}

struct Fake {
    told: Sender<Told>,
    /// Interfaces that are there, from number 7 on; without a name those that are gone.
    links: Arc<Mutex<Vec<&'static str>>>,
    refuses: bool,
}

impl Enforce for Fake {
    fn apply(&mut self, _: &Update) -> Result<(), String> {
        if self.refuses {
            return Err("the policy map CELL is full".to_owned());
        }
        let _ = self.told.send(Told::Apply);
        Ok(())
    }

    fn attach(&mut self, _: &ObjectId, interface: &Interface) -> Result<(), String> {
        let own = interface.own.iter().map(ToString::to_string).collect();
        let _ = self.told.send(Told::Attach(interface.name.clone(), own));
        Ok(())
    }

    fn announce(&mut self, _: &ObjectId, _: &Interface) -> Result<(), String> {
        Ok(())
    }

    fn detach(&mut self, id: &ObjectId, ifindex: u32) -> Result<(), String> {
        let _ = self.told.send(Told::Detach(id.name.clone(), ifindex));
        Ok(())
    }

    fn take_over(&mut self) -> Result<(), String> {
        let _ = self.told.send(Told::TakeOver);
        Ok(())
    }

    fn configure(&mut self, wanted: &Wanted) -> Result<(), String> {
        let _ = self.told.send(Told::Configure(wanted.endpoint_to_host));
        Ok(())
    }

    fn judge(&self, _: &ObjectId, outbound: bool, _: &First) -> Result<Loaded, String> {
        match outbound {
            true => Err("no such map".to_owned()),
            false => Ok(Loaded::NotProgrammed),
        }
    }

    fn counters(&self) -> Result<BTreeMap<Counted, Counter>, String> {
        Ok(BTreeMap::new())
    }

    fn counted_by(&self, key: &CounterKey) -> Result<Vec<u32>, String> {
        Ok(vec![key.rule])
    }

    fn find(&self, place: &Place) -> Option<Interface> {
        let links = self.links.lock().unwrap();
        let at = links.iter().position(|name| *name == place.interface)?;
        Some(Interface {
            name: place.interface.clone(),
            ifindex: 7 + u32::try_from(at).unwrap(),
            mac: place.mac,
            own: place.own.clone(),
            host: place.host,
            mtu: 0,
        })
    }

    fn interfaces(&self) -> Vec<Interface> {
        let links = self.links.lock().unwrap().clone();
        let there = (7..).zip(links).filter(|(_, name)| !name.is_empty());
        let each = there.map(|(ifindex, name)| Interface {
            name: name.to_owned(),
            ifindex,
            mac: Mac([0; 6]),
            own: Vec::new(),
            host: true,
            mtu: 0,
        });
        each.collect()
    }
}

struct Rig {
    handle: Handle,
    told: Receiver<Told>,
    status: watch::Receiver<Option<View>>,
    thread: JoinHandle<()>,
    links: Arc<Mutex<Vec<&'static str>>>,
    bar: FakeBar,
}

impl Rig {
    fn with(links: &[&'static str], refuses: bool) -> Rig {
        Rig::behind(FakeBar::default(), links, refuses)
    }

    /// The same, with what another daemon has cut off.
    fn behind(bar: FakeBar, links: &[&'static str], refuses: bool) -> Rig {
        let (told, seen) = channel();
        let links = Arc::new(Mutex::new(links.to_vec()));
        let fake = Fake {
            told,
            links: links.clone(),
            refuses,
        };
        let rig = Rig::start(move || Ok(Box::new(fake) as Box<dyn Enforce>), seen, bar);
        Rig { links, ..rig }
    }

    fn without_kernel() -> Rig {
        Rig::barred(FakeBar::default())
    }

    fn barred(bar: FakeBar) -> Rig {
        Rig::start(|| Err("no programs".to_owned()), channel().1, bar)
    }

    fn start(
        load: impl FnOnce() -> Result<Box<dyn Enforce>, String> + Send + 'static,
        told: Receiver<Told>,
        bar: FakeBar,
    ) -> Rig {
        let (owner, handle, status) = Owner::new("n1", Vec::new(), load, bar.clone());
        let thread = std::thread::spawn(|| owner.run());
        Rig {
            handle,
            told,
            status,
            thread,
            links: Arc::default(),
            bar,
        }
    }

    /// Interfaces are others from here on.
    async fn link(&self, links: &[&'static str]) {
        *self.links.lock().unwrap() = links.to_vec();
        self.handle.links_changed();
        self.settled().await;
    }

    /// What was sent before has been taken in, and what follows from it is done by the time of the second answer.
    async fn settled(&self) {
        self.handle.ask(|_| ()).await.unwrap();
        self.handle.ask(|_| ()).await.unwrap();
    }

    /// Ends the owner; what the kernel was told besides writes, and the last status.
    fn end(self) -> (Vec<Told>, Option<View>) {
        self.handle.stop();
        self.thread.join().unwrap();
        let told = self.told.try_iter().filter(|t| *t != Told::Apply).collect();
        let status = self.status.borrow().clone();
        (told, status)
    }
}

fn web() -> Resource<WorkloadEndpointSpec> {
    let text = r#"{"apiVersion":"routerd/v1","kind":"WorkloadEndpoint",
        "metadata":{"name":"web","namespace":"shop","labels":{"app":"web"}},
        "spec":{"node":"n1","containerID":"c1","interfaceName":"rtd0","ipNetworks":["10.0.0.5/32"],
                "mac":"02:00:00:00:00:05","workload":"w","endpoint":"eth0"}}"#;
    match manifest::decode_stored(text.as_bytes()).unwrap() {
        Object::WorkloadEndpoint(endpoint) => endpoint,
        other => panic!("{other:?}"),
    }
}

fn id() -> ObjectId {
    Object::WorkloadEndpoint(web()).id()
}

fn listed() -> Vec<Input> {
    let place = Place::of_workload(&web());
    vec![
        Input::Change(Change::Party(id(), Some(Party::local(&web())))),
        Input::Place(id(), place),
    ]
}

fn policy(selector: &str) -> Input {
    let id = ObjectId {
        kind: Kind::GlobalNetworkPolicy,
        namespace: None,
        name: "deny".to_owned(),
    };
    let spec = format!(r#"{{"selector":"{selector}"}}"#);
    let spec: PolicySpec = serde_json::from_str(&spec).unwrap();
    Input::Change(Change::Policy(id, Some(spec)))
}

fn own(ips: &[&str]) -> Told {
    let ips = ips.iter().map(|ip| (*ip).to_owned()).collect();
    Told::Attach("rtd0".to_owned(), ips)
}

#[tokio::test]
async fn a_workload_is_held_closed_before_it_is_admitted() {
    let rig = Rig::with(&["rtd0"], false);
    rig.handle.listed(Vec::new());
    let (handle, link) = (rig.handle.clone(), "rtd0".parse().unwrap());
    let hold = handle.hold(&id(), link, 7, web().spec.mac.unwrap(), 1500);
    tokio::task::spawn_blocking(hold).await.unwrap().unwrap();
    rig.handle.admit(web()).await.unwrap();
    // The store tells the same afterwards, and DEL ends it.
    rig.handle.feed(listed());
    rig.handle.feed(Input::gone(&id()).into_iter().collect());
    let (told, _) = rig.end();
    let expected = [
        Told::TakeOver,
        own(&[]),
        own(&["10.0.0.5/32"]),
        Told::Detach("web".to_owned(), 7),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_is_being_added_survives_a_list_that_does_not_have_it() {
    let rig = Rig::with(&["rtd0"], false);
    rig.handle.listed(Vec::new());
    rig.handle.admit(web()).await.unwrap();
    rig.handle.listed(Vec::new());
    rig.handle.release(&id());
    let (handle, link) = (rig.handle.clone(), "rtd0".parse().unwrap());
    let hold = handle.hold(&id(), link, 7, web().spec.mac.unwrap(), 1500);
    tokio::task::spawn_blocking(hold).await.unwrap().unwrap();
    let (told, _) = rig.end();
    // Released, it holds nothing of the first attempt.
    assert_eq!(told, [Told::TakeOver, own(&[])]);
}

#[tokio::test]
async fn a_start_attaches_what_is_there_and_then_takes_over() {
    let rig = Rig::with(&["rtd0"], false);
    rig.handle.listed(listed());
    let mut status = rig.status.clone();
    status.wait_for(Option::is_some).await.unwrap();
    let (told, status) = rig.end();
    assert_eq!(told, [own(&["10.0.0.5/32"]), Told::TakeOver]);
    assert_eq!(status.unwrap().subsystem.state, Health::Ok);
}

#[tokio::test]
async fn nothing_is_taken_over_while_a_write_fails() {
    let rig = Rig::with(&["rtd0"], true);
    rig.handle.listed(listed());
    let refused = rig.handle.admit(web()).await.unwrap_err();
    assert!(refused.contains("CELL is full"), "{refused}");
    let (told, status) = rig.end();
    assert!(!told.contains(&Told::TakeOver), "{told:?}");
    assert_eq!(status.unwrap().subsystem.state, Health::Failed);
}

#[tokio::test]
async fn without_a_kernel_only_what_no_policy_is_about_is_admitted() {
    let rig = Rig::without_kernel();
    rig.handle.listed(Vec::new());
    rig.handle.admit(web()).await.unwrap();
    rig.handle.feed(vec![policy("app == 'other'")]);
    rig.handle.admit(web()).await.unwrap();
    rig.handle.feed(vec![policy("app == 'web'")]);
    let refused = rig.handle.admit(web()).await.unwrap_err();
    assert!(refused.contains("no programs"), "{refused}");
    let (_, status) = rig.end();
    assert_eq!(status.unwrap().subsystem.state, Health::Degraded);
}

#[tokio::test]
async fn a_defect_is_told_to_everybody_and_nobody_waits() {
    let rig = Rig::with(&["rtd0"], false);
    rig.handle.listed(listed());
    let failed: Result<(), Gone> = rig.handle.ask(|_| panic!("a test of defects")).await;
    let why = failed.unwrap_err();
    assert!(matches!(why, Gone::Defect { .. }), "{why}");
    assert!(!why.is_retryable());
    let text = why.to_string();
    assert!(text.contains("a test of defects"), "{text}");

    // Requests that come later are refused at once, by the same reason.
    assert_eq!(rig.handle.admit(web()).await, Err(text.clone()));
    let (handle, link) = (rig.handle.clone(), "rtd0".parse().unwrap());
    let hold = handle.hold(&id(), link, 7, web().spec.mac.unwrap(), 1500);
    let held = tokio::task::spawn_blocking(hold).await.unwrap();
    assert_eq!(held, Err(text.clone()));
    assert_eq!(rig.handle.ask(|_| ()).await, Err(why));
    let subsystem = rig.handle.fate().subsystem().unwrap();
    assert_eq!(
        (&*subsystem.name, subsystem.state, subsystem.message),
        ("policy", Health::Failed, text)
    );
    // The kernel was not told to let anything go.
    let (told, _) = rig.end();
    assert_eq!(told, [own(&["10.0.0.5/32"]), Told::TakeOver]);
}

#[tokio::test]
async fn what_waits_when_a_defect_comes_is_told_of_it() {
    let rig = Rig::with(&["rtd0"], false);
    let (held, hold) = channel::<()>();
    let blocked = rig.handle.ask(move |_| {
        let _ = hold.recv();
        panic!("a test of defects")
    });
    let behind = rig.handle.admit(web());
    let release = async { drop(held) };
    let (blocked, behind, ()) = tokio::join!(biased; blocked, behind, release);
    let why: Gone = Result::<(), Gone>::unwrap_err(blocked);
    assert_eq!(behind, Err(why.to_string()));
    rig.end();
}

fn asked(direction: PolicyType) -> judge::Asked {
    judge::Asked {
        endpoint: id(),
        direction,
        packet: calc::policy::Packet {
            source: [10, 0, 0, 5].into(),
            destination: [10, 0, 0, 6].into(),
            protocol: 6,
            source_port: 1,
            destination_port: 2,
            icmp: None,
        },
    }
}

fn answers(rig: &Rig, asked: Vec<judge::Asked>) -> Vec<judge::Ruled> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let judge = move |seen: &Seen<'_>| {
        asked
            .iter()
            .map(|a| judge::judge(seen, a))
            .collect::<Vec<_>>()
    };
    let answers = runtime.unwrap().block_on(rig.handle.ask(judge));
    answers.unwrap()
}

#[test]
fn what_is_in_force_is_asked_of_the_kernel_or_it_is_said_that_there_is_none() {
    let rig = Rig::with(&["rtd0"], false);
    rig.handle.listed(listed());
    let both = vec![asked(PolicyType::Egress), asked(PolicyType::Ingress)];
    let said = answers(&rig, both.clone());
    assert_eq!(said[0], judge::Ruled::Unread("no such map".to_owned()));
    let judge::Ruled::Otherwise {
        allowed: false,
        why,
    } = &said[1]
    else {
        panic!("{said:?}");
    };
    assert!(why.contains("not in the maps"), "{why}");
    rig.end();

    let rig = Rig::without_kernel();
    for answer in answers(&rig, both) {
        let judge::Ruled::Otherwise { allowed: true, why } = answer else {
            panic!("{answer:?}");
        };
        assert!(why.ends_with("no programs"), "{why}");
    }
    rig.end();
}

fn host(name: &str, interface: &str) -> [Input; 2] {
    let id = ObjectId {
        kind: Kind::HostEndpoint,
        namespace: None,
        name: name.to_owned(),
    };
    let party = Party {
        role: Role::Host {
            default_allow: false,
        },
        nets: Vec::new(),
        ..Party::local(&web())
    };
    let place = Place {
        interface: interface.to_owned(),
        host: true,
        of_cni: false,
        goes_straight: false,
        own: Vec::new(),
        ..Place::of_workload(&web())
    };
    [
        Input::Change(Change::Party(id.clone(), Some(party))),
        Input::Place(id, place),
    ]
}

#[tokio::test]
async fn one_for_all_interfaces_is_at_those_that_nobody_else_has() {
    let rig = Rig::with(&["eth0", "rtd0", "rtd.vxlan4"], false);
    let at = |name: &str| Told::Attach(name.to_owned(), Vec::new());
    let off = |name: &str, ifindex| Told::Detach(name.to_owned(), ifindex);
    let mut inputs = listed();
    inputs.extend(host("every", "*"));
    rig.handle.listed(inputs);
    rig.settled().await;
    rig.link(&["eth0", "rtd0", "rtd.vxlan4", "eth1"]).await;
    // One by name takes its interface over, and gives it back, without a moment between.
    rig.handle.feed(host("one", "eth1").into());
    rig.settled().await;
    let one = host("one", "eth1")[0].id().unwrap();
    rig.handle.feed(Input::gone(&one).into_iter().collect());
    rig.link(&["", "rtd0", "rtd.vxlan4", "eth1"]).await;
    // There can be one of its kind only, and the next comes when it goes.
    rig.handle.feed(host("next", "*").into());
    rig.settled().await;
    let status = rig.status.borrow().clone().unwrap().subsystem;
    assert_eq!(status.state, Health::Failed);
    assert!(status.message.contains("HostEndpoint/every"), "{status:?}");
    let every = host("every", "*")[0].id().unwrap();
    rig.handle.feed(Input::gone(&every).into_iter().collect());
    rig.settled().await;
    let (told, status) = rig.end();
    let mut expected = vec![own(&["10.0.0.5/32"]), at("eth0"), at("rtd.vxlan4")];
    expected.extend([Told::TakeOver, at("eth1"), at("eth1"), at("eth1")]);
    expected.extend([off("every", 7), at("rtd.vxlan4"), at("eth1")]);
    assert_eq!(told, expected);
    assert_eq!(status.unwrap().subsystem.state, Health::Ok);
}
