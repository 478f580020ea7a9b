//! A certificate and its key in files, which are read again when they change.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
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
    log::say,
    stop::Shared,
    util::{Failure, sync::lock_std},
};

/// How often the files are looked at, at the most: a look is two system calls of a handshake.
const LOOK: Duration = Duration::from_secs(1);

/// Where the certificate (its chain, its own first) and the key are, both in PEM.
#[derive(Debug)]
pub(crate) struct CertifiedFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl CertifiedFiles {
    /// # Errors
    ///
    /// Name the file, and say what is wrong with it.
    pub(super) fn config(self, shared: &Arc<Shared>) -> Result<ServerConfig, Failure> {
        let Some(provider) = CryptoProvider::get_default() else {
            return Err(Failure::new(
                "TLS needs a crypto provider, which is the program's choice: call, before the \
                 server is made, `rustls::crypto::ring::default_provider().install_default()` or \
                 that of another provider",
            ));
        };
        let provider = provider.clone();
        let current = self.read(&provider)?;
        let stamps = self.stamps();
        let reloads = shared.tls_reloads();
        let state = State { current, stamps, looked: Instant::now(), reloads };
        let resolver = Resolver {
            files: self,
            provider: provider.clone(),
            shared: shared.clone(),
            state: Mutex::new(state),
        };
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(Failure::from_error)?;
        Ok(builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver)))
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
            // A key of a kind that does not tell.
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

    /// No client takes a certificate outside of its dates.
    fn check_dates(
        &self,
        certificate: &CertificateDer<'_>,
        provider: &CryptoProvider,
    ) -> Result<(), Failure> {
        let name = self.certificate.display();
        // One of a form that is not known here, such as version 1, may please its clients.
        let Ok(parsed) = ParsedCertificate::try_from(certificate) else {
            return Ok(());
        };
        // Who has signed it is the clients' affair: that nobody is trusted here is what is said of
        // every certificate whose dates are right.
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

    /// By which a change is seen. Certbot replaces a link, cert-manager the folder that it leads
    /// into: both are seen through the links.
    fn stamps(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key]
            .map(|path| std::fs::metadata(path).and_then(|it| it.modified()).ok())
    }
}

struct Resolver {
    files: CertifiedFiles,
    provider: Arc<CryptoProvider>,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

struct State {
    current: Arc<CertifiedKey>,
    stamps: [Option<SystemTime>; 2],
    looked: Instant,
    /// How often `Handle::reload_tls` had been called when the files were read.
    reloads: u64,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut state = lock_std(&self.state);
        let reloads = self.shared.tls_reloads();
        if state.reloads == reloads && state.looked.elapsed() < LOOK {
            return Some(state.current.clone());
        }
        state.looked = Instant::now();
        let stamps = self.files.stamps();
        if state.reloads == reloads && state.stamps == stamps {
            return Some(state.current.clone());
        }
        state.reloads = reloads;
        match self.files.read(&self.provider) {
            Ok(certified) => {
                (state.current, state.stamps) = (certified, stamps);
                let file = self.files.certificate.display().to_string();
                say!(
                    self.shared.log,
                    info,
                    { certificate = file.clone() },
                    "read the certificate {file} again"
                );
            }
            // One file has been replaced and the other has not yet, perhaps: the next look is
            // another try, and what is there is said once.
            Err(failure) => {
                if state.stamps != stamps {
                    state.stamps = stamps;
                    say!(
                        self.shared.log,
                        warn,
                        { error = failure.to_string() },
                        "{failure}; going on with the certificate from before"
                    );
                }
            }
        }
        Some(state.current.clone())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("certificate", &self.files.certificate)
            .finish_non_exhaustive()
    }
}
