//! A certificate and its key, made by openssl, and clients that trust it.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::{Fixture, Folder, PATIENCE};

/// A folder with a certificate and its key.
#[derive(Debug)]
pub struct Certificates(Folder);

impl Certificates {
    /// Makes them for `localhost`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let files = Self(Folder::new(&format!("tls-{name}")));
        files.make("localhost");
        files
    }

    /// The path of `cert.pem` or `key.pem`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.file(name)
    }

    /// Has a fixture serve with them.
    #[must_use]
    pub fn of(&self, fixture: Fixture) -> Fixture {
        let path = |name: &str| self.path(name).display().to_string();
        fixture.env("CERTIFICATE", &path("cert.pem")).env("KEY", &path("key.pem"))
    }

    /// By openssl: a certificate that has expired.
    pub fn expire(&self) {
        let (key, request, certificate) =
            (self.path("key.pem"), self.path("request.pem"), self.path("cert.pem"));
        let extensions = self.path("extensions.txt");
        fs::write(&extensions, "subjectAltName=DNS:localhost").expect("as openssl makes them");
        let run = |openssl: &mut Command| {
            let output = openssl.output().expect("as openssl makes them");
            assert!(output.status.success(), "{output:?}");
        };
        run(Command::new("openssl")
            .args(["req", "-new", "-subj", "/CN=localhost", "-key"])
            .args([key.as_os_str(), "-out".as_ref(), request.as_os_str()]));
        run(Command::new("openssl")
            .args(["x509", "-req", "-days", "-1", "-extfile"])
            .args([extensions.as_os_str(), "-in".as_ref()])
            .args([request.as_os_str(), "-signkey".as_ref(), key.as_os_str()])
            .args(["-out".as_ref(), certificate.as_os_str()]));
    }

    /// By openssl: a certificate that signs itself.
    pub fn make(&self, common_name: &str) {
        let (key, certificate) = (self.path("new-key.pem"), self.path("new.pem"));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", &format!("/CN={common_name}")])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .args([key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
            .output()
            .expect("as openssl makes them");
        assert!(output.status.success(), "{output:?}");
        // In place, as certbot and cert-manager renew.
        fs::rename(key, self.path("key.pem")).expect("as openssl makes them");
        fs::rename(certificate, self.path("cert.pem")).expect("as openssl makes them");
    }

    /// A client that trusts them.
    #[must_use]
    pub fn client(&self) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots
            .add(
                CertificateDer::from_pem_file(self.path("cert.pem"))
                    .expect("as openssl makes them"),
            )
            .expect("as openssl makes them");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("as openssl makes them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("as openssl makes them");
        ClientConnection::new(Arc::new(config), name).expect("as openssl makes them")
    }

    /// A connection of such a client.
    #[must_use]
    pub fn connect(&self, addr: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let stream = TcpStream::connect(addr).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        StreamOwned::new(self.client(), stream)
    }
}

/// Sends a request, and reads the answer. Returns whether the server keeps the connection.
pub fn exchange(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> io::Result<bool> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nfine") {
        let mut some = [0; 1024];
        match stream.read(&mut some)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend(&some[..length]),
        }
    }
    Ok(!String::from_utf8_lossy(&answer).contains("connection: close"))
}
