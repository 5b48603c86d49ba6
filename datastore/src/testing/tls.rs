//! A certificate authority made by `openssl` for one test.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Files of an authority, a server certificate and a client certificate.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The servers' certificate, for all their addresses.
    pub server_cert: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// A client's certificate.
    pub client_cert: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them in `dir`.
    pub fn make(dir: &Path, servers: &[IpAddr]) -> Result<Certificates, String> {
        let file = |name: &str| dir.join(name);
        let c = Certificates {
            ca: file("ca.pem"),
            server_cert: file("server.pem"),
            server_key: file("server-key.pem"),
            client_cert: file("client.pem"),
            client_key: file("client-key.pem"),
        };
        let ca_key = file("ca-key.pem");
        new_key(&ca_key, &c.ca, "test authority", &[], None)?;
        let authority = Some((c.ca.as_path(), ca_key.as_path()));
        let names: Vec<String> = servers.iter().map(|ip| format!("IP:{ip}")).collect();
        let names = format!("subjectAltName={}", names.join(","));
        let usage = "extendedKeyUsage=serverAuth,clientAuth";
        let server = [names.as_str(), usage];
        new_key(&c.server_key, &c.server_cert, "etcd", &server, authority)?;
        let client = ["extendedKeyUsage=clientAuth"];
        // The name must be no etcd user's: a certificate would log in as that.
        let name = "a client";
        new_key(&c.client_key, &c.client_cert, name, &client, authority)?;
        Ok(c)
    }

    pub(super) fn server_args(&self) -> Vec<String> {
        vec![
            format!("--cert-file={}", self.server_cert.display()),
            format!("--key-file={}", self.server_key.display()),
            format!("--trusted-ca-file={}", self.ca.display()),
            "--client-cert-auth".to_owned(),
        ]
    }

    pub(super) fn client_args(&self) -> Vec<String> {
        vec![
            format!("--cert={}", self.client_cert.display()),
            format!("--key={}", self.client_key.display()),
            format!("--cacert={}", self.ca.display()),
        ]
    }
}

/// A key and its certificate, self-signed or by an authority.
fn new_key(
    key: &Path,
    cert: &Path,
    name: &str,
    extensions: &[&str],
    authority: Option<(&Path, &Path)>,
) -> Result<(), String> {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]);
    openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-subj", &format!("/CN={name}")]);
    openssl.arg("-keyout").arg(key).arg("-out").arg(cert);
    for extension in extensions {
        openssl.args(["-addext", extension]);
    }
    if let Some((ca, ca_key)) = authority {
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.arg("-CA").arg(ca).arg("-CAkey").arg(ca_key);
    }
    let output = openssl
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run openssl: {e}; install it: apt-get install openssl"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("openssl could not make {}: {said}", cert.display()))
}
