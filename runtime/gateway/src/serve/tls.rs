//! TLS certificates, which can be reloaded while the gateway serves.

use std::path::Path;
use std::sync::{Arc, Mutex};

use lockstep::internal::lock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

lockstep::internal::sentence! {
    /// Why certificates cannot be used: a sentence that names the file.
    CertificateError
}

/// The certificates for new connections.
#[derive(Clone)]
pub struct Certificates {
    files: Tls,
    current: Arc<Mutex<TlsAcceptor>>,
}

impl core::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the certificates.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn open(files: &Tls) -> Result<Self, CertificateError> {
        Ok(Self { files: files.clone(), current: Arc::new(Mutex::new(read(files)?)) })
    }

    /// Reads the files again. Open connections keep their certificates.
    ///
    /// # Errors
    ///
    /// [`CertificateError`]; the certificates then stay unchanged.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let read = read(&self.files)?;
        *lock(&self.current) = read;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        lock(&self.current).clone()
    }
}

fn read(tls: &Tls) -> Result<TlsAcceptor, CertificateError> {
    let fail =
        |what: &str, path: &Path, error: &dyn core::fmt::Display| format!("cannot {what} {}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| CertificateError::because(fail("read the certificate", &tls.certificate, &error), error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| CertificateError::because(fail("read the key", &tls.key, &error), error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| CertificateError::because(fail("use the certificate", &tls.certificate, &error), error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
