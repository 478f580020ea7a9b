//! A client of TLS, and the certificate that the servers have.

use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Arc, LazyLock},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::client;

/// A folder with `cert.pem` and `key.pem`, made by openssl, once for all runs on this machine.
pub(crate) static CERTIFICATE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("graceful-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .args([folder.join("key.pem").as_os_str(), "-out".as_ref()])
        .arg(folder.join("cert.pem"))
        .output();
    assert!(output.expect("openssl runs").status.success(), "openssl makes a certificate");
    folder
});

pub(crate) fn connect(addr: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(CERTIFICATE.join("cert.pem"));
        roots.add(certificate.expect("a certificate")).expect("one that can be read");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    });
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(CONFIG.clone(), name).expect("a client");
    StreamOwned::new(connection, client::connect(addr))
}
