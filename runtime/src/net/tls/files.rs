//! A certificate and its key in files, which are reloaded when they change.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use tokio_rustls::rustls::{
    self, CertificateError, RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    context::Handle,
    log::say,
    net::system::FileStamp,
    stop::Shared,
    util::{Failure, sync::lock_std, threads},
};

/// The minimum interval between checks of the files.
const LOOK: Duration = Duration::from_secs(1);

/// The resolvers of all programs in this process.
static RESOLVERS: Mutex<Vec<Weak<Resolver>>> = Mutex::new(Vec::new());

impl Handle {
    /// Reloads the certificates of [`Server::tls_files`](crate::Server::tls_files) without waiting
    /// for a check to notice a change. Returns immediately: a thread reads the files and logs when
    /// they are in use.
    pub fn reload_tls(&self) {
        let program = self.shared().program();
        let resolvers: Vec<_> = lock_std(&RESOLVERS).iter().filter_map(Weak::upgrade).collect();
        let is_own = |shared: Arc<Shared>| Arc::ptr_eq(shared.program(), program);
        for resolver in resolvers {
            if resolver.shared.upgrade().is_some_and(is_own) {
                resolver.look(true);
            }
        }
        // Before the program is ready, and while it stops, there is no service to resume.
        if program.phase.is_serving() {
            program.manager.reloads();
        }
    }
}

/// Paths of the certificate chain (leaf first) and the key, both in PEM.
#[derive(Debug)]
pub(crate) struct CertifiedFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl CertifiedFiles {
    /// # Errors
    ///
    /// The error names the file and says what is wrong with it.
    pub(super) fn config(self, shared: &Arc<Shared>) -> Result<ServerConfig, Failure> {
        let Some(provider) = CryptoProvider::get_default() else {
            return Err(Failure::new(
                "TLS needs a crypto provider, which is the program's choice: call, before the \
                 server is made, `rustls::crypto::ring::default_provider().install_default()` or \
                 that of another provider",
            ));
        };
        let provider = provider.clone();
        // In this order, so that the first check sees a change made during the read.
        let stamps = self.stamps();
        let current = self.read(&provider)?;
        let look =
            Look { stamps, at: Instant::now(), is_running: false, failure: None, is_due: false };
        let resolver = Arc::new(Resolver {
            files: self,
            provider: provider.clone(),
            shared: Arc::downgrade(shared),
            current: Mutex::new(current),
            look: Mutex::new(look),
        });
        let mut resolvers = lock_std(&RESOLVERS);
        resolvers.retain(|resolver| resolver.strong_count() > 0);
        resolvers.push(Arc::downgrade(&resolver));
        drop(resolvers);
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(Failure::from_error)?;
        Ok(builder.with_no_client_auth().with_cert_resolver(Arc::new(Certificates(resolver))))
    }

    /// Reads the files again while the server runs. Only regular files are read: a FIFO may never
    /// end, and nothing else would be read until it does. At startup, such a wait does not go
    /// unnoticed.
    fn read_again(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Failure> {
        for path in [&self.certificate, &self.key] {
            if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
                return Err(Failure::new(format!("{} is not a regular file", path.display())));
            }
        }
        self.read(provider)
    }

    fn read(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Failure> {
        let failed = |path: &Path, what: &str, error: rustls::pki_types::pem::Error| {
            let name = path.display();
            match error {
                rustls::pki_types::pem::Error::Io(error) => {
                    Failure::from_error(error).context(&format!("cannot read the {what} {name}"))
                }
                rustls::pki_types::pem::Error::NoItemsFound => {
                    Failure::new(format!("{name} has no {what} in it: it has to be in PEM"))
                }
                error => Failure::from_error(error).context(&format!("the {what} {name}")),
            }
        };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(&self.certificate, "certificate", error))?;
        if chain.is_empty() {
            let none = rustls::pki_types::pem::Error::NoItemsFound;
            return Err(failed(&self.certificate, "certificate", none));
        }
        self.check_dates(&chain[0], provider)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| failed(&self.key, "private key", error))?;
        let key = provider.key_provider.load_private_key(key).map_err(|error| {
            Failure::from_error(error).context(&format!("the private key {}", self.key.display()))
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // Some kinds of keys cannot be compared.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(Arc::new(certified))
            }
            Err(_) => Err(Failure::new(format!(
                "the private key {} does not belong to the certificate {}",
                self.key.display(),
                self.certificate.display()
            ))),
        }
    }

    /// Rejects a certificate outside its validity period, which no client accepts.
    fn check_dates(
        &self,
        certificate: &CertificateDer<'_>,
        provider: &CryptoProvider,
    ) -> Result<(), Failure> {
        let name = self.certificate.display();
        // Clients may accept a form that is unknown here, such as version 1.
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else {
            return Ok(());
        };
        // The issuer is for the clients to judge: with no trusted roots, every certificate whose
        // dates are right fails because of its issuer.
        let verified = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &RootCertStore::empty(),
            &[],
            UnixTime::now(),
            provider.signature_verification_algorithms.all,
        );
        let Err(rustls::Error::InvalidCertificate(error)) = verified else {
            return Ok(());
        };
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Err(Failure::new(format!("the certificate {name} has expired: renew it")))
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Err(Failure::new(format!(
                    "the certificate {name} is not valid yet: is the clock of this machine right?"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Returns the metadata that reveals a change. Certbot replaces a link, cert-manager the
    /// directory that it leads into: both are seen through the links. All fields are needed,
    /// because a copy may keep the time of its original, and a file may be written twice within a
    /// tick of its clock.
    fn stamps(&self) -> Stamps {
        [&self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some(FileStamp::of(&metadata))
        })
    }
}

/// The stamps of the certificate and the key; `None` if there is no such file or it cannot be
/// inspected.
type Stamps = [Option<FileStamp>; 2];

/// The certificate in use. A separate thread reads it again, since files may be slow.
struct Resolver {
    files: CertifiedFiles,
    provider: Arc<CryptoProvider>,
    shared: Weak<Shared>,
    current: Mutex<Arc<CertifiedKey>>,
    look: Mutex<Look>,
}

/// The state of the checks.
struct Look {
    /// The stamps of the certificate in use.
    stamps: Stamps,
    /// When the files were last checked.
    at: Instant,
    /// Whether a thread is checking them now.
    is_running: bool,
    /// The error of the last read, which has been logged.
    failure: Option<String>,
    /// Whether the program has asked for another check since the last one began.
    is_due: bool,
}

impl Resolver {
    /// Starts a thread that checks the files, unless one is running or, if not `due`, ran a moment
    /// ago.
    fn look(self: &Arc<Self>, due: bool) {
        {
            let mut look = lock_std(&self.look);
            look.is_due |= due;
            if look.is_running || !look.is_due && look.at.elapsed() < LOOK {
                return;
            }
            look.is_running = true;
        }
        let this = self.clone();
        if threads::spawn("graceful-tls", move || this.look_now()).is_err() {
            // No thread could be spawned; the next handshake tries again.
            lock_std(&self.look).is_running = false;
        }
    }

    fn look_now(&self) {
        loop {
            let stamps = self.files.stamps();
            let before = {
                let mut look = lock_std(&self.look);
                look.at = Instant::now();
                let is_asked_for = std::mem::take(&mut look.is_due);
                if look.stamps == stamps && look.failure.is_none() && !is_asked_for {
                    look.is_running = false;
                    return;
                }
                look.failure.clone()
            };
            let failure = match self.files.read_again(&self.provider) {
                Ok(certified) => {
                    *lock_std(&self.current) = certified;
                    self.say_read();
                    None
                }
                Err(failure) => {
                    let failure = failure.to_string();
                    if before.as_ref() != Some(&failure) {
                        self.say_failed(&failure);
                    }
                    Some(failure)
                }
            };
            let mut look = lock_std(&self.look);
            if failure.is_none() {
                look.stamps = stamps;
            }
            look.failure = failure;
            if !look.is_due {
                look.is_running = false;
                return;
            }
        }
    }

    fn say_read(&self) {
        if let Some(shared) = self.shared.upgrade() {
            let file = self.files.certificate.display().to_string();
            say!(
                shared.log,
                info,
                { certificate = file.clone() },
                "read the certificate {file} again"
            );
        }
    }

    fn say_failed(&self, failure: &str) {
        if let Some(shared) = self.shared.upgrade() {
            say!(
                shared.log,
                warn,
                { error = failure.to_owned() },
                "{failure}; going on with the certificate from before"
            );
        }
    }
}

/// The resolver that rustls asks for a certificate.
#[derive(Debug)]
struct Certificates(Arc<Resolver>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.look(false);
        Some(lock_std(&self.0.current).clone())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("certificate", &self.files.certificate)
            .finish_non_exhaustive()
    }
}
