//! Passwords and TTLs: right, and wrong in words.

use anyhow::{Result, ensure};
use bgp::fsm::State;
use bgp::speaker::{Password, Ttl};
use integration::lab;

use crate::bird;
use crate::frr;

fn password(text: &str) -> Option<Password> {
    Password::new(text.as_bytes()).ok()
}

#[test]
fn a_password_has_to_be_the_same_as_birds() -> Result<()> {
    lab::run("bird-md5", |lab| {
        let (_link, mut us, _bird) =
            bird::start(lab, &bird::config("password \"rack seven\";", ""))?;
        us.them().password = password("rack eight");
        us.start()?;
        us.said("TCP MD5")?;
        ensure!(us.status()?.state < State::OpenConfirm);
        us.them().password = None;
        us.configure()?;
        us.said("TCP MD5")?;
        us.them().password = password("rack seven");
        us.configure()?;
        us.is_up()?;
        us.installs("10.2.0.0/24", &["10.99.0.2"])?;
        Ok(())
    })
}

#[test]
fn a_password_has_to_be_the_same_as_frrs() -> Result<()> {
    lab::run("frr-md5", |lab| {
        let (_link, mut us, _frr) = frr::start(lab, "neighbor 10.99.0.1 password rack-seven")?;
        us.them().password = password("rack-eight");
        us.start()?;
        us.said("TCP MD5")?;
        us.them().password = password("rack-seven");
        us.configure()?;
        us.is_up()?;
        Ok(())
    })
}

#[test]
fn ttl_security_goes_with_ttl_security() -> Result<()> {
    lab::run("bird-gtsm", |lab| {
        let (_link, mut us, _bird) = bird::start(lab, &bird::config("ttl security on;", ""))?;
        us.them().ttl = Ttl::Security(1);
        us.start()?;
        us.is_up()?;
        us.learns("10.2.0.0/24")?;
        Ok(())
    })
}

#[test]
fn ttl_security_refuses_who_does_not_send_it() -> Result<()> {
    lab::run("bird-no-gtsm", |lab| {
        let (_link, mut us, _bird) = bird::start(lab, &bird::config("", ""))?;
        us.them().ttl = Ttl::Security(1);
        us.start()?;
        us.said("with a TTL of 255")?;
        ensure!(us.status()?.state < State::OpenConfirm);
        us.them().ttl = Ttl::Direct;
        us.configure()?;
        us.is_up()?;
        Ok(())
    })
}

#[test]
fn ttl_security_and_password_together_with_frr() -> Result<()> {
    lab::run("frr-gtsm", |lab| {
        let both =
            "neighbor 10.99.0.1 password rack-seven\n neighbor 10.99.0.1 ttl-security hops 1";
        let (_link, mut us, _frr) = frr::start(lab, both)?;
        us.them().ttl = Ttl::Security(1);
        us.them().password = password("rack-seven");
        us.start()?;
        us.is_up()?;
        us.learns("10.2.0.0/24")?;
        Ok(())
    })
}
