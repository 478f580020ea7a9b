//! TLS with rustls, one acceptor among others. The crypto provider is the program's choice.
//!
//! May use: `acceptor`, `stream` and `tls_info` of `net`.

mod files;
mod records;

pub(crate) use files::CertifiedFiles;
pub(crate) use records::TlsSource;
