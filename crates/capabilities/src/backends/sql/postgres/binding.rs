//! What binds a login to the certificate of the server (RFC 5929, `tls-server-end-point`): its digest, by the hash that
//! its own signature is made with.

use postgres_protocol::authentication::sasl::ChannelBinding;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Object identifiers of signatures, in DER, with the bits of their hash. MD5 and SHA-1 are replaced by SHA-256 there.
const SIGNATURES: [(&[u8], u32); 8] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], 256), // RSA with MD5
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], 256), // RSA with SHA-1
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], 256), // RSA with SHA-256
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], 384), // RSA with SHA-384
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], 512), // RSA with SHA-512
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], 256),       // ECDSA with SHA-256
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], 384),       // ECDSA with SHA-384
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], 512),       // ECDSA with SHA-512
];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// The binding to a certificate (DER); none where its signature is of a kind for which there is none.
pub(super) fn end_point(certificate: &[u8]) -> Option<ChannelBinding> {
    Some(ChannelBinding::tls_server_end_point(digest(certificate)?))
}

fn digest(certificate: &[u8]) -> Option<Vec<u8>> {
    let (inside, _) = element(SEQUENCE, certificate)?;
    let (_, after) = element(SEQUENCE, inside)?;
    let (algorithm, _) = element(SEQUENCE, after)?;
    let (id, _) = element(OBJECT_IDENTIFIER, algorithm)?;
    let (_, bits) = SIGNATURES.iter().find(|(known, _)| *known == id)?;
    Some(match bits {
        256 => Sha256::digest(certificate).to_vec(),
        384 => Sha384::digest(certificate).to_vec(),
        _ => Sha512::digest(certificate).to_vec(),
    })
}

/// The contents of the DER element that begins here, and what follows it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, first], mut rest) = bytes.split_first_chunk()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (number, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        length = number.iter().try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?;
        rest = after;
    }
    if found == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm,
    };

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let made = |algorithm: &'static SignatureAlgorithm| {
            let key = KeyPair::generate_for(algorithm).unwrap();
            CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().der().to_vec()
        };
        let one = made(&PKCS_ECDSA_P256_SHA256);
        assert_eq!(digest(&one), Some(Sha256::digest(&one).to_vec()));
        let other = made(&PKCS_ECDSA_P384_SHA384);
        assert_eq!(digest(&other), Some(Sha384::digest(&other).to_vec()));
        assert_eq!(digest(&made(&PKCS_ED25519)), None);
        for length in 0..one.len().min(200) {
            assert_eq!(digest(&one[..length]), None);
        }
        assert_eq!(digest(&[0x30, 0xff, 0, 0, 0]), None);
    }
}
