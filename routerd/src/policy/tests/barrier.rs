//! Workloads that are cut off where nothing enforces policy.

use super::*;

impl Rig {
    /// The interfaces that are cut off now.
    async fn barred_now(&self) -> Vec<String> {
        self.settled().await;
        let table = self.bar.0.lock().unwrap();
        let links = table.stands.iter().flatten();
        links.map(ToString::to_string).collect()
    }

    async fn status_now(&self) -> (Health, String) {
        self.settled().await;
        let subsystem = self.status.borrow().clone().unwrap().subsystem;
        (subsystem.state, subsystem.message)
    }
}

fn standing(links: &[&str]) -> FakeBar {
    let bar = FakeBar::default();
    bar.0.lock().unwrap().stands = Some(links.iter().map(|l| l.parse().unwrap()).collect());
    bar
}

const NOBODY: [&str; 0] = [];

#[tokio::test]
async fn a_workload_is_cut_off_while_a_policy_selects_it() {
    let rig = Rig::without_kernel();
    rig.handle.listed(listed());
    assert_eq!(rig.barred_now().await, NOBODY);
    rig.handle.feed(vec![policy("app == 'web'")]);
    assert_eq!(rig.barred_now().await, ["rtd0"]);
    let (state, message) = rig.status_now().await;
    assert_eq!(state, Health::Degraded);
    for word in [
        "no programs",
        "WorkloadEndpoint/shop/web cut off by table inet routerd_cutoff",
        "delete the policies",
    ] {
        assert!(message.contains(word), "{message}");
    }
    let both = [asked(PolicyType::Egress), asked(PolicyType::Ingress)];
    let judged = rig.handle.ask(move |seen| {
        let judged: Vec<_> = both.iter().map(|a| judge::judge(seen, a)).collect();
        (judged, fill::Fill::of(seen).cut_off)
    });
    let (judged, cut_off) = judged.await.unwrap();
    assert_eq!(cut_off, ["WorkloadEndpoint/shop/web"]);
    for ruled in judged {
        let judge::Ruled::Otherwise { allowed, why } = ruled else {
            panic!("{ruled:?}");
        };
        assert!(!allowed && why.contains("cut off"), "{why}");
    }
    rig.handle.feed(vec![policy("app == 'other'")]);
    assert_eq!(rig.barred_now().await, NOBODY);
    assert_eq!(rig.bar.0.lock().unwrap().writes, 2);
    rig.end();
}

#[tokio::test]
async fn what_a_daemon_before_has_cut_off_stays_so_and_is_not_written_again() {
    let rig = Rig::barred(standing(&["rtd0"]));
    // What is not known yet takes nothing away.
    rig.handle.feed(vec![policy("app == 'web'")]);
    assert_eq!(rig.barred_now().await, ["rtd0"]);
    let mut all = listed();
    all.push(policy("app == 'web'"));
    rig.handle.listed(all);
    assert_eq!(rig.barred_now().await, ["rtd0"]);
    assert_eq!(rig.bar.0.lock().unwrap().writes, 0);
    rig.end();
}

#[tokio::test]
async fn an_edit_by_hand_is_put_right() {
    let rig = Rig::without_kernel();
    let mut all = listed();
    all.push(policy("app == 'web'"));
    rig.handle.listed(all);
    assert_eq!(rig.barred_now().await, ["rtd0"]);
    rig.bar.0.lock().unwrap().stands = None;
    rig.handle.tables_changed();
    assert_eq!(rig.barred_now().await, ["rtd0"]);
    rig.end();
}

#[tokio::test]
async fn it_goes_when_the_programs_have_taken_over_and_not_before() {
    let rig = Rig::behind(standing(&["rtd0"]), &["rtd0"], false);
    rig.handle.listed(listed());
    assert_eq!(rig.barred_now().await, NOBODY);
    rig.end();
    let rig = Rig::behind(standing(&["rtd0"]), &["rtd0"], true);
    rig.handle.listed(listed());
    assert_eq!(rig.barred_now().await, ["rtd0"]);
    rig.end();
}

#[tokio::test]
async fn who_cannot_be_cut_off_is_told_with_the_table() {
    let rig = Rig::without_kernel();
    rig.handle.listed(listed());
    rig.bar.0.lock().unwrap().refuses = true;
    rig.handle.feed(vec![policy("app == 'web'")]);
    let (state, message) = rig.status_now().await;
    assert_eq!(state, Health::Failed);
    for word in [
        "1 workloads that policies select are not cut off",
        "table inet routerd_cutoff: no",
    ] {
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(
        rig.handle.ask(|seen| seen.barrier.cut_off().count()).await,
        Ok(0)
    );
    rig.bar.0.lock().unwrap().refuses = false;
    rig.handle.tables_changed();
    assert_eq!(rig.status_now().await.0, Health::Degraded);
    rig.end();
}

#[tokio::test]
async fn programs_of_a_daemon_before_are_no_reason_to_cut_off() {
    let bar = FakeBar::default();
    bar.0.lock().unwrap().programmed = ["rtd0".parse().unwrap()].into();
    let rig = Rig::barred(bar);
    let mut all = listed();
    all.push(policy("app == 'web'"));
    rig.handle.listed(all);
    assert_eq!(rig.barred_now().await, NOBODY);
    let (state, message) = rig.status_now().await;
    assert_eq!(state, Health::Failed);
    assert!(
        message.contains("1 workloads keep the policies"),
        "{message}"
    );
    rig.end();
}

#[tokio::test]
async fn a_host_endpoint_is_told_of_and_not_cut_off() {
    let rig = Rig::without_kernel();
    let mut all: Vec<Input> = host("every", "eth0").into();
    all.push(policy("app == 'web'"));
    rig.handle.listed(all);
    assert_eq!(rig.barred_now().await, NOBODY);
    let (state, message) = rig.status_now().await;
    assert_eq!(state, Health::Failed);
    assert!(message.contains("1 host endpoints"), "{message}");
    rig.end();
}
