//! Certificates, made by the program `openssl` as PostgreSQL's documentation makes them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::process::{ServerUser, run};
use crate::scratch::Scratch;

/// An authority, in a directory of its own.
pub struct Authority {
    directory: PathBuf,
}

/// A certificate and its key.
pub struct Signed {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key, which its owner alone may read.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority below `scratch`.
    #[track_caller]
    pub fn new(scratch: &Scratch, name: &str) -> Authority {
        let authority = Authority { directory: scratch.create(name) };
        authority.openssl(&[
            "req",
            "-new",
            "-x509",
            "-days",
            "2",
            "-nodes",
            "-out",
            "root.crt",
            "-keyout",
            "root.key",
            "-subj",
            &format!("/CN={name}"),
        ]);
        authority
    }

    /// Its own certificate.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root.crt")
    }

    /// Signs a certificate for a common name. `names` are other names, as in
    /// `DNS:db.example,IP:127.0.0.1`; without any it is of version 1.
    #[track_caller]
    pub fn sign(&self, common_name: &str, names: &str) -> Signed {
        let file = |ending: &str| format!("{common_name}.{ending}");
        let (request, certificate, key) = (file("csr"), file("crt"), file("key"));
        self.openssl(&[
            "req",
            "-new",
            "-nodes",
            "-out",
            &request,
            "-keyout",
            &key,
            "-subj",
            &format!("/CN={common_name}"),
        ]);
        let mut arguments = vec![
            "x509",
            "-req",
            "-in",
            &request,
            "-days",
            "2",
            "-CA",
            "root.crt",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-out",
            &certificate,
        ];
        if !names.is_empty() {
            fs::write(self.directory.join("names"), format!("subjectAltName={names}\n"))
                .expect("the directory is ours");
            arguments.extend(["-extfile", "names"]);
        }
        self.openssl(&arguments);
        self.signed(&certificate, &key)
    }

    /// A certificate that signs itself, beside the authority's own.
    #[track_caller]
    pub fn self_signed(&self, common_name: &str) -> Signed {
        let (certificate, key) = (format!("{common_name}.crt"), format!("{common_name}.key"));
        self.openssl(&[
            "req",
            "-new",
            "-x509",
            "-days",
            "2",
            "-nodes",
            "-out",
            &certificate,
            "-keyout",
            &key,
            "-subj",
            &format!("/CN={common_name}"),
        ]);
        self.signed(&certificate, &key)
    }

    /// The list of certificates that it has revoked: these.
    #[track_caller]
    pub fn revoke(&self, revoked: &[&Signed]) -> PathBuf {
        let configuration = "[ca]\ndefault_ca=own\n[own]\ndatabase=index\ncrlnumber=number\n\
                             certificate=root.crt\nprivate_key=root.key\ndefault_md=sha256\n\
                             default_crl_days=2\n";
        for (name, content) in [("index", ""), ("number", "01\n"), ("ca.cnf", configuration)] {
            let path = self.directory.join(name);
            fs::write(&path, content).expect("the directory is ours");
            ServerUser::get().own(&path);
        }
        for signed in revoked {
            let certificate = signed.certificate.to_str().expect("the path is UTF-8");
            self.openssl(&["ca", "-config", "ca.cnf", "-revoke", certificate]);
        }
        self.openssl(&["ca", "-config", "ca.cnf", "-gencrl", "-out", "root.crl"]);
        self.directory.join("root.crl")
    }

    fn signed(&self, certificate: &str, key: &str) -> Signed {
        let (certificate, key) = (self.directory.join(certificate), self.directory.join(key));
        make_secret(&key);
        Signed { certificate, key }
    }

    #[track_caller]
    fn openssl(&self, arguments: &[&str]) {
        let mut openssl = ServerUser::get().command("openssl");
        run(openssl.args(arguments).current_dir(&self.directory)).success();
    }
}

/// Lets nobody but its owner read a file.
pub fn make_secret(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
}
