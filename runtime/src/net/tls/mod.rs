//! TLS by rustls, one acceptor among others; the crypto provider is the program's choice.
//!
//! May use: `acceptor` and `transport` of `net`.

mod files;
mod records;

pub(crate) use files::CertifiedFiles;
pub(crate) use records::TlsSource;
