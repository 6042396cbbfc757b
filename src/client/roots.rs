//! Root certificates that outbound TLS connections trust: Mozilla's and those of `CA_FILE`.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::env::Env;

/// The trusted roots of a service. All clients of a process share one value and therefore one TLS configuration.
///
/// Mozilla's roots are the parsed anchors of `webpki-roots`, which `lettre` links anyway. ureq accepts either these
/// anchors or a list of certificates, but not both: a list of all certificates would add 134 KB to each binary and
/// 200 to 500 KB of memory per client, and two attempts per connection would double the handshakes.
#[derive(Debug, Default)]
pub struct TrustedRoots {
    extra: Vec<CertificateDer<'static>>,
    /// Reasons why certificates in the files were skipped. Logged with the first connection, because settings are read
    /// before logging starts.
    skipped: Vec<String>,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl TrustedRoots {
    /// Reads the PEM files that `names` configure and reports unusable files to `env`.
    pub(super) fn from_env(env: &mut Env<'_>, names: &[&'static str]) -> Self {
        let (mut extra, mut skipped) = (Vec::new(), Vec::new());
        for name in names {
            let Some(path) = env.string(name) else { continue };
            match read_certificates(&path, &mut skipped) {
                Ok(certificates) => extra.extend(certificates),
                Err(problem) => env.error(name, problem),
            }
        }
        Self { extra, skipped, tls: OnceLock::new() }
    }

    /// Returns the certificates from files, without Mozilla's, in DER.
    pub fn extra_certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.extra.iter().map(AsRef::as_ref)
    }

    /// Returns the TLS configuration that trusts these roots. It is built by the first HTTPS connection, since most
    /// services never open one.
    pub(super) fn tls_config(&self) -> Arc<ClientConfig> {
        Arc::clone(self.tls.get_or_init(|| {
            let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            for reason in &self.skipped {
                log::warn!("client: {reason}; it is skipped");
            }
            store.add_parsable_certificates(self.extra.iter().cloned());
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring has cipher suites for TLS 1.2 and 1.3");
            Arc::new(builder.with_root_certificates(store).with_no_client_auth())
        }))
    }
}

/// Reads the certificates of a PEM file. Adds the reasons for unusable ones to `skipped`; files that are assembled
/// from several sources often contain some.
///
/// # Errors
/// Returns the problem if the file cannot be read or contains no usable certificate.
fn read_certificates(path: &str, skipped: &mut Vec<String>) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|why| format!("cannot read {path}: {why}"))?;
    let (mut store, mut usable) = (RootCertStore::empty(), Vec::new());
    for (index, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        let added = certificate.map_err(|why| why.to_string()).and_then(|certificate| {
            store.add(certificate.clone()).map_err(|why| why.to_string())?;
            usable.push(certificate);
            Ok(())
        });
        if let Err(why) = added {
            skipped.push(format!("certificate {} in {path} cannot be used as a root: {why}", index + 1));
        }
    }
    if usable.is_empty() {
        return Err(skipped.pop().unwrap_or_else(|| format!("{path} contains no PEM certificate")));
    }
    Ok(usable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Variable;

    const TABLE: &[Variable] = &[Variable::plain("CA_FILE", "", ""), Variable::plain("ALERT_CA_FILE", "", "")];

    #[test]
    fn unusable_files_are_named_with_the_problem() {
        let folder = std::env::temp_dir();
        let file = |name: &str, content: &str| {
            let path = folder.join(format!("monlight-roots-{}-{name}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            path.to_string_lossy().into_owned()
        };
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let truncated = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (path, problem) in [
            ("/nonexistent/ca.pem".to_owned(), "cannot read /nonexistent/ca.pem: "),
            (file("empty", ""), " contains no PEM certificate"),
            (file("key", key), " contains no PEM certificate"),
            (file("truncated", truncated), "cannot be used as a root: "),
            (file("garbage", garbage), "cannot be used as a root: "),
        ] {
            let mut env = Env::new(TABLE, |name| (name == "ALERT_CA_FILE").then(|| path.clone()));
            let roots = TrustedRoots::from_env(&mut env, &["CA_FILE", "ALERT_CA_FILE"]);
            let errors = env.finish().unwrap_err();
            assert!(errors[0].starts_with("ALERT_CA_FILE") && errors[0].contains(problem), "{errors:?}");
            assert_eq!((errors.len(), roots.extra_certificates().count()), (1, 0));
            let _ = std::fs::remove_file(path);
        }
    }
}
