//! From flags, environment and `--env-dir` to the settings of the core.
//!
//! Each setting is taken from the command line, else from the environment, else
//! from `--env-dir`. Keys count only as a pair from one place; only `-k` takes
//! its secret from any place, because no option may hold a secret.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use wal_e_core::config::{
    CompressionVariables, Credentials, Encryption, EncryptionPolicy, Endpoint, EnvDir, FileConfig,
    Misfit, NAMESPACES, Place, Prefix, Proxies, Proxy, S3Config, S3Given, Secret, Setting,
    StaticCredentials, StoreConfig, StorePlace, Variables,
};
use wal_e_core::{Error, ErrorKind, Result};

use crate::cli::StoreOptions;

/// Where the credentials are that a later `wal-fetch` will need again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialPlace {
    /// In `--env-dir`, which can be named again.
    EnvDir,
    /// In the environment of this process only.
    Environment,
    /// Wherever the AWS default chain looks.
    DefaultChain,
    /// The prefix needs none.
    NotNeeded,
}

/// Where the keys are that a later `wal-fetch` will need again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPlaces {
    /// Those for the store.
    pub credentials: CredentialPlace,
    /// Whether those to decrypt with were found in the environment of this process only.
    pub encryption_in_environment: bool,
}

/// Where objects are, and how to reach them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For the core.
    pub store: StoreConfig,
    /// Where keys were found.
    pub keys: KeyPlaces,
    /// How to compress, as far as variables say.
    pub compression: CompressionVariables,
    /// Variables that are set and not followed.
    pub misfits: Vec<Misfit>,
    /// The arguments that lead another process to the same place, when
    /// it is given the same credentials. No secret is among them.
    pub arguments: Vec<String>,
}

impl Settings {
    /// Reads `--env-dir` and puts everything together.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is no prefix, or more than one, or a setting is invalid.
    pub fn resolve(options: &StoreOptions, environment: Place) -> Result<Self> {
        let mut places = vec![environment];
        let mut arguments = Arguments::default();
        if let Some(directory) = &options.env_dir {
            places.push(Place::EnvDir(EnvDir::read(directory)?));
        }
        let variables = Variables { places };

        let (prefix, from_env_dir) = prefix(options, &variables)?;
        if !from_env_dir {
            let setting = match &prefix {
                Prefix::S3 { .. } => Setting::S3Prefix,
                Prefix::File { .. } => Setting::FilePrefix,
            };
            arguments.push(setting, &prefix.to_string());
        }
        if let Some(directory) = &options.env_dir {
            arguments.push_path(Setting::EnvDir, directory)?;
        }
        let (store, credentials) = match prefix {
            Prefix::S3 { bucket, path } => {
                let (config, place) = s3((bucket, path), options, &variables, &mut arguments)?;
                (StorePlace::S3(config), place)
            }
            Prefix::File { directory } => {
                (StorePlace::File(FileConfig { directory }), CredentialPlace::NotNeeded)
            }
        };
        let policy = options.encryption.as_deref().map(str::parse::<EncryptionPolicy>).transpose();
        let policy =
            policy.map_err(|error| error.with_detail("It was given with --encryption."))?;
        let encryption = Encryption::resolve(policy, &variables)?;
        let encryption_in_environment = Encryption::has_keys_in_environment(&variables);
        let store = StoreConfig { place: store, encryption };
        let compression = CompressionVariables::find(&variables);
        let misfits = variables.misfits();
        Ok(Settings {
            store,
            keys: KeyPlaces { credentials, encryption_in_environment },
            compression,
            misfits,
            arguments: arguments.0,
        })
    }

    /// Text that distinguishes the archive from all others, even from one of the same name
    /// on another server or on a disk that was mounted later.
    pub fn archive_identity(&self) -> String {
        let prefix = self.store.prefix();
        match &self.store.place {
            StorePlace::S3(S3Config { endpoint, region, .. }) => format!(
                "{prefix} {} {}",
                endpoint.as_deref().unwrap_or("aws"),
                region.as_deref().unwrap_or_default()
            ),
            StorePlace::File(FileConfig { directory }) => {
                let metadata = std::fs::metadata(directory).ok();
                let (device, inode) = metadata.map_or((0, 0), |found| (found.dev(), found.ino()));
                format!("{prefix} {device} {inode}")
            }
        }
    }
}

/// The process environment. A value that is not UTF-8 counts as not set.
pub fn environment() -> Place {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Place::Environment(std::env::vars_os().filter_map(text).collect())
}

/// Arguments that repeat what was in effect.
#[derive(Debug, Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn push(&mut self, setting: Setting, value: &str) {
        self.0.extend([format!("--{}", setting.option()), value.to_owned()]);
    }

    /// What was given for S3, or is in the environment, and is needed to read from it:
    /// another process finds by itself what is in `--env-dir`.
    fn repeat(
        &mut self,
        given: &S3Given,
        endpoint: Option<String>,
        variables: &Variables,
    ) -> Result<()> {
        let seen_here = |setting| variables.find(setting).filter(|found| !found.from_env_dir);
        let text = |given: Option<String>, setting| match given {
            Some(value) => Some(value),
            None => seen_here(setting).map(|found| found.value),
        };
        for (setting, value) in
            [(Setting::S3Endpoint, endpoint), (Setting::S3Region, given.region.clone())]
        {
            if let Some(value) = text(value, setting) {
                self.push(setting, &value);
            }
        }
        let force = match (given.force_path_style, seen_here(Setting::S3ForcePathStyle)) {
            (Some(force), _) => Some(force),
            (None, found) => found.map(|found| found.boolean()).transpose()?,
        };
        if let Some(force) = force {
            self.0.push(format!("--{}={force}", Setting::S3ForcePathStyle.option()));
        }
        let variable = || seen_here(Setting::S3CaFile).map(|found| PathBuf::from(found.value));
        if let Some(file) = given.ca_file.clone().or_else(variable) {
            self.push_path(Setting::S3CaFile, &file)?;
        }
        if let Some(proxy) = repeated_proxy(given, variables)? {
            self.push(Setting::S3Proxy, &proxy);
        }
        let timeout = given.timeout.map(|timeout| timeout.as_secs().to_string());
        if let Some(seconds) = text(timeout, Setting::S3Timeout) {
            self.push(Setting::S3Timeout, &seconds);
        }
        Ok(())
    }

    fn push_path(&mut self, setting: Setting, path: &std::path::Path) -> Result<()> {
        let absolute = std::path::absolute(path)
            .map_err(|source| Error::file("make an absolute path of", path, &source))?;
        let text = absolute.to_str().ok_or_else(|| {
            let message = format!("the path \"{}\" is not UTF-8", absolute.display());
            Error::new(ErrorKind::Config, message)
        })?;
        self.push(setting, text);
        Ok(())
    }
}

/// The proxy that another process would not find by itself. One with a password is left for
/// its own environment, or for `--env-dir`.
fn repeated_proxy(given: &S3Given, variables: &Variables) -> Result<Option<String>> {
    if given.proxy.is_some() {
        return Ok(given.proxy.clone());
    }
    let proxies = Proxies::resolve(None, variables)?;
    let endpoint = match (&given.endpoint, variables.find(Setting::S3Endpoint)) {
        (Some(endpoint), _) => endpoint.url.clone(),
        (None, Some(found)) => found.value.parse::<Endpoint>()?.url,
        (None, None) => "https://s3.amazonaws.com".to_owned(),
    };
    let proxy = proxies.for_url(&endpoint);
    let is_seen_here = |proxy: &&Proxy| !proxy.from_env_dir && proxy.login.is_none();
    Ok(proxy.filter(is_seen_here).map(Proxy::url))
}

/// The prefix, and whether it was found in `--env-dir`.
fn prefix(options: &StoreOptions, variables: &Variables) -> Result<(Prefix, bool)> {
    if let Some(url) = &options.s3_prefix {
        return Ok((s3_prefix("--s3-prefix", url)?, false));
    }
    if let Some(url) = &options.file_prefix {
        return Ok((file_prefix("--file-prefix", url)?, false));
    }
    for place in &variables.places {
        match (place.find(Setting::S3Prefix), place.find(Setting::FilePrefix)) {
            (None, None) => {}
            (Some(s3), None) => return Ok((s3_prefix(&s3.name, &s3.value)?, s3.from_env_dir)),
            (None, Some(file)) => {
                return Ok((file_prefix(&file.name, &file.value)?, file.from_env_dir));
            }
            (Some(s3), Some(file)) => {
                let (s3, file) = (s3.name, file.name);
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("both {s3} and {file} are set in {}", place.describe()),
                )
                .with_hint("Unset one, or choose with --s3-prefix or --file-prefix."));
            }
        }
    }
    Err(Error::new(ErrorKind::Config, "no prefix is configured").with_hint(
        "Use --s3-prefix s3://BUCKET/PATH or --file-prefix file:///PATH, or set WALE_S3_PREFIX or WALE_FILE_PREFIX.",
    ))
}

fn s3_prefix(name: &str, url: &str) -> Result<Prefix> {
    match url.parse()? {
        prefix @ Prefix::S3 { .. } => Ok(prefix),
        Prefix::File { .. } => Err(wrong_kind(name, url, "s3://BUCKET/PATH")),
    }
}

/// A URL, or as WAL-G has it a plain absolute path.
fn file_prefix(name: &str, url: &str) -> Result<Prefix> {
    let parsed = if url.starts_with('/') { format!("file://{url}").parse() } else { url.parse() };
    match parsed? {
        prefix @ Prefix::File { .. } => Ok(prefix),
        Prefix::S3 { .. } => Err(wrong_kind(name, url, "file:///PATH")),
    }
}

fn wrong_kind(name: &str, url: &str, form: &str) -> Error {
    Error::new(ErrorKind::Config, format!("invalid value \"{url}\" of {name}"))
        .with_hint(format!("It must look like \"{form}\"."))
}

/// All that is said of S3, by options before variables.
fn s3(
    (bucket, path): (String, String),
    options: &StoreOptions,
    variables: &Variables,
    arguments: &mut Arguments,
) -> Result<(S3Config, CredentialPlace)> {
    let text = |given: &Option<String>| given.clone().filter(|value| !value.is_empty());
    let endpoint = text(&options.s3_endpoint);
    let mut given = S3Given {
        endpoint: endpoint.as_deref().map(str::parse::<Endpoint>).transpose()?,
        region: text(&options.s3_region),
        force_path_style: options.s3_force_path_style,
        ca_file: options.s3_ca_file.clone(),
        proxy: text(&options.s3_proxy),
        storage_class: text(&options.s3_storage_class),
        sse: text(&options.s3_sse),
        sse_kms_key_id: text(&options.s3_sse_kms_key_id),
        credentials: None,
        timeout: options.s3_timeout.map(Duration::from_secs),
    };
    arguments.repeat(&given, endpoint, variables)?;
    let (credentials, place) = credentials(options, variables, arguments)?;
    given.credentials = credentials;
    Ok((S3Config::resolve(bucket, path, given, variables)?, place))
}

fn credentials(
    options: &StoreOptions,
    variables: &Variables,
    arguments: &mut Arguments,
) -> Result<(Option<Credentials>, CredentialPlace)> {
    let place_of = |place: &Place| match place {
        Place::Environment(_) => CredentialPlace::Environment,
        Place::EnvDir(_) => CredentialPlace::EnvDir,
    };
    for place in &variables.places {
        // The store reads the directory itself, and again when keys expire.
        if let (Place::EnvDir(directory), None) = (place, &options.aws_access_key_id) {
            if directory.credentials().is_some() {
                let credentials = Credentials::EnvDir(directory.path().to_owned());
                return Ok((Some(credentials), CredentialPlace::EnvDir));
            }
            continue;
        }
        for namespace in NAMESPACES {
            let get = |names: [&str; 2]| {
                names.iter().find_map(|name| place.get(&format!("{namespace}{name}")))
            };
            let id = match &options.aws_access_key_id {
                Some(id) => Some(id.as_str()),
                None => get(["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"]),
            };
            let secret = get(["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"]);
            let (Some(id), Some(secret)) = (id, secret) else { continue };
            let mut source = place.describe();
            if options.aws_access_key_id.is_some() {
                arguments.push(Setting::AwsAccessKeyId, id);
                source = format!("--aws-access-key-id with the secret of {source}");
            }
            let credentials = StaticCredentials {
                access_key_id: id.to_owned(),
                secret_access_key: Secret::new(secret),
                session_token: get(["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"]).map(Secret::new),
                source,
            };
            return Ok((Some(Credentials::Given(credentials)), place_of(place)));
        }
    }
    match &options.aws_access_key_id {
        None => Ok((None, CredentialPlace::DefaultChain)),
        Some(id) => {
            let message = format!("the secret of access key \"{id}\" is not known");
            Err(Error::new(ErrorKind::Config, message)
                .with_hint("Set AWS_SECRET_ACCESS_KEY in the environment or in --env-dir."))
        }
    }
}

#[cfg(test)]
mod tests;
