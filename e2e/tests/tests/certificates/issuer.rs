//! Somebody else's certificates, and cert-manager's schemas.

use std::path::Path;
use std::process::Command;

use keeper_e2e::{node, repository, try_kubectl};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer as Signer, KeyPair};
use serde_json::Value;

/// A certificate, its key, and who signed it; all PEM.
pub(crate) struct Pair {
    pub(crate) crt: String,
    pub(crate) key: String,
    pub(crate) ca: String,
}

/// A CA.
pub(crate) struct Issuer {
    ca: String,
    signer: Signer<'static, KeyPair>,
}

impl Issuer {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let signer = Signer::new(params, key);
        Self { ca, signer }
    }

    pub(crate) fn ca(&self) -> &str {
        &self.ca
    }

    /// For the webhook's name.
    pub(crate) fn issue(&self) -> Pair {
        let name = "keeper-injector-webhook.keeper-security.svc".to_owned();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name]).unwrap();
        Pair {
            crt: params.signed_by(&key, &self.signer).unwrap().pem(),
            key: key.serialize_pem(),
            ca: self.ca.clone(),
        }
    }
}

/// cert-manager's custom resources. They go with the test.
pub(crate) struct Schemas(Vec<String>);

impl Schemas {
    /// From its Go module, at a pinned version and with a pinned checksum.
    pub(crate) fn install() -> Self {
        let found = Command::new("go")
            .args([
                "mod",
                "download",
                "-json",
                "github.com/cert-manager/cert-manager",
            ])
            .current_dir(repository().join("e2e/cluster/tools/cert-manager"))
            .output()
            .unwrap();
        let found: Value = serde_json::from_slice(&found.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&found.stderr)));
        let folder = Path::new(found["Dir"].as_str().expect("a folder")).join("deploy/crds");
        let file = |kind| folder.join(format!("cert-manager.io_{kind}.yaml"));
        let files = ["certificates", "issuers"].map(|kind| file(kind).display().to_string());
        node::install_kinds(&files);
        Self(files.into())
    }
}

impl Drop for Schemas {
    fn drop(&mut self) {
        for file in &self.0 {
            let _ = try_kubectl(&["delete", "--wait=false", "--filename", file], None);
        }
    }
}
