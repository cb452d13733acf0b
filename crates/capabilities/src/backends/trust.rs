//! Whose certificates are believed: the public authorities, those of the embedder, and those of a grant.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use parole_durable::Digest;
use parole_policy::{Authority, Certificates, MAX_AUTHORITY};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// The public authorities and those of `extra`, each a PEM text of one certificate or more.
pub(crate) fn roots<'p>(extra: impl IntoIterator<Item = &'p [u8]>) -> Result<RootCertStore, &'static str> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for pem in extra {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| "a root certificate is not PEM")?;
            roots.add(certificate).map_err(|_| "a root certificate cannot be used as one")?;
        }
        if roots.len() == before {
            return Err("a PEM text of root certificates holds none");
        }
    }
    Ok(roots)
}

/// Reads a file of certificate authorities for a policy, or says what is wrong with it, in words that follow its key.
///
/// # Errors
/// It is no plain file of [`MAX_AUTHORITY`] bytes at most with one usable certificate (PEM) at least, or it holds a
/// private key, which would come to lie in every record of the policy.
pub fn read_authority(path: &Path) -> Result<Certificates, String> {
    let name = path.display();
    let cannot = |error: std::io::Error| format!("the file {name} cannot be read: {error}");
    // A pipe would block for ever, so it is looked at first.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(format!("{name} is not a file"));
    }
    let mut pem = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(MAX_AUTHORITY as u64 + 1).read_to_end(&mut pem).map_err(cannot)?;
    let digest = Digest::of(&pem).to_string();
    // Comments between the certificates may be in any encoding, and an editor may have put a mark before all of it.
    let text = String::from_utf8_lossy(&pem);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
    if pem.len().max(text.len()) > MAX_AUTHORITY {
        return Err(format!("the file {name} is over {MAX_AUTHORITY} bytes"));
    }
    let pem = text;
    if pem.contains("PRIVATE KEY-----") {
        return Err(format!("the file {name} holds a private key: name one with the certificates alone"));
    }
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(no_certificate(path));
    }
    roots([pem.as_bytes()]).map_err(|why| format!("the file {name} cannot be used: {why}"))?;
    Ok(Certificates { digest, pem })
}

fn no_certificate(path: &Path) -> String {
    format!("the file {} holds no certificate (PEM: -----BEGIN CERTIFICATE-----)", path.display())
}

/// The texts of the authorities of a grant. All of them have been read before the policy was pinned.
pub(crate) fn pems(authorities: &[Authority]) -> impl Iterator<Item = &[u8]> {
    authorities.iter().map(|authority| authority.read.as_ref().map_or(&b""[..], |read| read.pem.as_bytes()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn files_of_authorities() {
        let scratch = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        let file = scratch.path().join("ca.pem");
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            read_authority(&file)
        };
        let commented = format!("# ours\n{pem}\n{pem}");
        assert_eq!(read(&format!("\u{feff}{pem}")).unwrap().pem, pem);
        let certificates = read(&commented).unwrap();
        assert_eq!(
            (certificates.pem, certificates.digest),
            (commented.clone(), Digest::of(commented.as_bytes()).to_string())
        );
        for (text, about) in [
            (String::new(), "holds no certificate"),
            ("no PEM".into(), "holds no certificate"),
            (key.serialize_pem(), "private key"),
            (format!("{pem}{}", key.serialize_pem()), "private key"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(), "cannot be used as one"),
            ("-----BEGIN CERTIFICATE-----\n?".into(), "cannot be used"),
            (format!("{pem}{}", "#".repeat(MAX_AUTHORITY - pem.len() + 1)), "is over"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(about) && !error.contains("BEGIN EC"), "{error}");
        }
        assert!(read(&format!("{pem}{}", "#".repeat(MAX_AUTHORITY - pem.len()))).is_ok());
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(read_authority(&file).unwrap_err().contains("holds no certificate"));
        assert!(read_authority(scratch.path()).unwrap_err().contains("is not a file"));
        assert!(read_authority(&scratch.path().join("none")).unwrap_err().contains("cannot be read"));
    }
}
