//! The Debian package builds, has what it should have where it should be, and is the same every time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::lab::{self, Process, binaries};
use integration::scenario::CONVERGE;

/// A directory that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Scratch> {
        let dir = std::env::temp_dir().join(format!("routerd-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> Result<String> {
    let out = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        out.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Builds the package from the binaries beside this test.
fn build(out: &Path) -> Result<PathBuf> {
    let daemon = binaries::find("routerd")?;
    let bin = daemon.parent().context("no directory")?;
    // Built at another time: the bytes must not tell.
    run(Command::new(repository().join("scripts/deb.sh"))
        .args([bin, out])
        .env("DEB_ARGS", "-Zgzip -z1"))?;
    let mut packages = fs::read_dir(out)?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "deb"));
    packages.next().context("no package was built")
}

#[test]
fn the_package_has_what_it_should_have() -> Result<()> {
    let (one, two, tree) = (
        Scratch::new("deb1")?,
        Scratch::new("deb2")?,
        Scratch::new("tree")?,
    );
    let package = build(&one.0)?;
    ensure!(
        fs::read(&package)? == fs::read(build(&two.0)?)?,
        "two builds differ"
    );

    let field = |name: &str| run(Command::new("dpkg-deb").arg("-f").arg(&package).arg(name));
    ensure!(field("Package")?.trim() == "routerd");
    ensure!(field("Version")?.trim() == env!("CARGO_PKG_VERSION"));
    ensure!(
        field("Depends")?.contains("libc6 (>= 2."),
        "{}",
        field("Depends")?
    );
    ensure!(field("Installed-Size")?.trim().parse::<u64>()? > 0);

    run(Command::new("dpkg-deb")
        .arg("-R")
        .arg(&package)
        .arg(&tree.0))?;
    let at = |path: &str| tree.0.join(path);
    for path in [
        "usr/sbin/routerd",
        "usr/sbin/routerd-tunnel",
        "usr/bin/routerctl",
        "usr/lib/cni/routerd-cni",
    ] {
        let elf = fs::read(at(path)).with_context(|| path.to_owned())?;
        ensure!(elf.starts_with(b"\x7fELF"), "{path}");
    }
    for path in [
        "usr/share/man/man8/routerd.8.gz",
        "usr/share/man/man1/routerctl.1.gz",
        "usr/share/bash-completion/completions/routerctl",
        "usr/share/zsh/vendor-completions/_routerctl",
        "usr/share/fish/vendor_completions.d/routerctl.fish",
        "usr/share/doc/routerd/copyright",
        "usr/share/doc/routerd/changelog.gz",
        "usr/share/doc/routerd/kernel-objects.md",
        "usr/share/doc/routerd/examples/10-routerd.conflist",
        "usr/lib/systemd/system/routerd.service",
    ] {
        let size = fs::metadata(at(path))
            .with_context(|| path.to_owned())?
            .len();
        ensure!(size > 100, "{path} has only {size} bytes");
    }
    ensure!(fs::read_to_string(at("DEBIAN/conffiles"))?.trim() == "/etc/routerd/routerd.toml");
    for script in ["postinst", "prerm", "postrm"] {
        run(Command::new("sh")
            .arg("-n")
            .arg(at(&format!("DEBIAN/{script}"))))?;
    }
    let listing = run(Command::new("dpkg-deb").arg("-c").arg(&package))?;
    for line in listing.lines() {
        ensure!(line.contains("root/root"), "not root's: {line}");
        ensure!(
            line.get(5..6) != Some("w") && line.get(8..9) != Some("w"),
            "others may write: {line}"
        );
    }
    // What the sample says of each default must be accepted by the daemon.
    run(Command::new(at("usr/sbin/routerd"))
        .args(["check", "--config"])
        .arg(at("etc/routerd/routerd.toml")))
    .map(drop)
}

#[test]
fn the_package_installs_into_a_fresh_root_and_its_daemon_runs() -> Result<()> {
    lab::run("package", |lab| {
        let (out, root) = (lab.subdir("out")?, lab.subdir("root")?);
        let package = build(&out)?;
        let admin = root.join("var/lib/dpkg");
        for dir in ["info", "updates", "parts", "triggers"] {
            fs::create_dir_all(admin.join(dir))?;
        }
        fs::write(admin.join("status"), "")?;
        let dpkg = |action: &str, what: &Path| {
            run(Command::new("dpkg")
                .arg(format!("--root={}", root.display()))
                // There is no libc in there; what the package needs of it, this machine has.
                .args([
                    "--force-depends",
                    "--force-script-chrootless",
                    "--log=/dev/null",
                ])
                .args([Path::new(action), what]))
        };
        let said = dpkg("--install", &package)?;
        ensure!(said.contains("systemctl enable --now routerd"), "{said}");

        // As the unit starts it, but for the places of a machine that runs already.
        let config = root.join("etc/routerd/routerd.toml");
        let sample = fs::read_to_string(&config)?;
        let (state, sockets) = (lab.subdir("state")?, lab.subdir("run")?);
        // No BPF file system is there, and the host's own is not ours.
        let bpf = lab.subdir("bpf")?;
        let own = format!("state_dir = {state:?}\nrun_dir = {sockets:?}\nbpf_dir = {bpf:?}");
        fs::write(&config, format!("{own}\n{sample}"))?;
        let host = lab.netns("host")?;
        host.ip(
            "link set lo up\nlink add eth0 type veth peer name wire\nlink set wire up\n\
                 link set eth0 up\naddr add 192.0.2.1/24 dev eth0",
        )?;
        let mut command = host.command(root.join("usr/sbin/routerd"));
        command.args(["run", "--config"]).arg(&config);
        let mut daemon = Process::start("the package's routerd", command, &lab.dir().join("log"))?;
        let ctl = |args: &[&str]| {
            run(host
                .command(root.join("usr/bin/routerctl"))
                .args(args)
                .env("ROUTERD_SOCKET", sockets.join("routerd.sock")))
        };
        lab::wait_for(&mut daemon, "it to be ready", CONVERGE, || {
            let status: serde_json::Value = serde_json::from_str(&ctl(&["status", "-o", "json"])?)?;
            ensure!(
                status["ready"] == true && status["inSync"] == true,
                "{status}"
            );
            Ok(())
        })?;
        ctl(&["doctor"])?;
        daemon.terminate(CONVERGE)?;
        dpkg("--purge", Path::new("routerd"))?;
        for gone in ["usr/sbin/routerd", "etc/routerd/routerd.toml"] {
            ensure!(!root.join(gone).exists(), "{gone} stays");
        }
        Ok(())
    })
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_and_little_exposed() -> Result<()> {
    let scratch = Scratch::new("unit")?;
    let daemon = binaries::find("routerd")?;
    let unit = fs::read_to_string(repository().join("packaging/routerd.service"))?;
    let path = scratch.0.join("routerd.service");
    let here = daemon.to_str().context("a path that is no text")?;
    fs::write(&path, unit.replace("/usr/sbin/routerd", here))?;
    let analyze = |args: &[&str]| {
        let out = Command::new("systemd-analyze")
            .args(args)
            .arg(&path)
            .output()
            .context("run systemd-analyze: `make setup` installs it")?;
        let said = [out.stdout, out.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(out.status.success(), "systemd-analyze {args:?}: {said}");
        Ok(said)
    };
    let said = analyze(&["verify", "--man=no"])?;
    ensure!(said.trim().is_empty(), "{said}");
    // 0 is a service that may do nothing, 100 one that may do all.
    analyze(&["security", "--offline=true", "--threshold=40"]).map(drop)
}

#[test]
fn every_line_of_the_sample_is_right_when_uncommented() -> Result<()> {
    let scratch = Scratch::new("sample")?;
    let sample = fs::read_to_string(repository().join("packaging/routerd.toml"))?;
    let lines: Vec<String> = sample
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting.to_owned(),
            _ => line.to_owned(),
        })
        // Files that are not on this machine.
        .filter(|line| {
            !["ca =", "cert =", "key =", "password_file ="]
                .iter()
                .any(|f| line.starts_with(f))
        })
        .filter(|line| !line.starts_with("username"))
        .collect();
    let config = scratch.0.join("routerd.toml");
    fs::write(
        &config,
        lines.join("\n").replace("\"embedded\"", "\"etcd\""),
    )?;
    run(Command::new(binaries::find("routerd")?)
        .args(["check", "--config"])
        .arg(&config))
    .map(drop)
}

#[test]
fn the_unit_lets_the_daemon_do_its_work_and_little_else() -> Result<()> {
    let unit = fs::read_to_string(repository().join("packaging/routerd.service"))?;
    let settings: Vec<&str> = unit
        .lines()
        .map(str::trim)
        .filter(|l| !l.starts_with('#'))
        .collect();
    for needed in [
        "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_SYS_NICE CAP_SETUID CAP_SETGID CAP_KILL",
        "KillMode=process",
        "RuntimeDirectoryPreserve=yes",
        "MountFlags=slave",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "RestartPreventExitStatus=78",
    ] {
        ensure!(settings.contains(&needed), "{needed}");
    }
    for harmful in [
        "ExecStop",
        "ExecStopPost",
        "ProtectKernelTunables",
        "ProtectProc",
        "PrivateNetwork",
    ] {
        ensure!(
            !settings.iter().any(|l| l.starts_with(harmful)),
            "{harmful} would break the daemon"
        );
    }
    Ok(())
}
