//! Variables that mean something to WAL-E, WAL-G or the AWS command line, and are not followed.
//!
//! Who comes from there takes them for granted: that what is stored is encrypted, or goes to
//! another place. What only makes such a program faster or slower is passed over.

use super::{
    AwsVariables, CompressionVariables, Encryption, NAMESPACES, Place, Prefix, Setting, Variables,
};

/// A variable that is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Which, where, and what it means that it is not followed. No value is in it.
    pub message: String,
    /// A whole sentence.
    pub hint: String,
}

/// Names without their namespace, what that they are not followed means, and what to do.
struct Kind {
    names: &'static [&'static str],
    meaning: &'static str,
    hint: fn() -> String,
}

/// What WAL-G encrypts with, and wal_e only reads.
const OPENPGP: [&str; 2] = ["PGP_KEY", "PGP_KEY_PATH"];

const KINDS: &[Kind] = &[
    Kind {
        names: &[
            "CSE_KMS_ID",
            "ENVELOPE_PGP_KEY",
            "ENVELOPE_PGP_KEY_PATH",
            "GPG_KEY_ID",
            "YC_CSE_KMS_KEY_ID",
        ],
        meaning: "wal_e encrypts with a key for libsodium only",
        hint: || {
            "Remove it, and name the file of such a key in WALG_LIBSODIUM_KEY_PATH.".to_owned()
        },
    },
    Kind {
        names: &OPENPGP,
        meaning: "wal_e reads with it, and does not encrypt what it stores",
        hint: || {
            "Name the file of a key for libsodium in WALG_LIBSODIUM_KEY_PATH, which is encrypted \
             with."
                .to_owned()
        },
    },
    Kind {
        names: &["AZ_PREFIX", "GS_PREFIX", "SSH_PREFIX", "SWIFT_PREFIX", "WABS_PREFIX"],
        meaning: "wal_e stores in S3 or in a directory, and nothing there",
        hint: || format!("Remove it; {} says where wal_e stores.", Setting::Prefix),
    },
    Kind {
        names: &["DELTA_MAX_STEPS", "DELTA_ORIGIN"],
        meaning: "wal_e does not take from there which base backups are incremental",
        hint: || {
            format!("Remove it; {} says how many may follow a full one.", Setting::BackupMaxDeltas)
        },
    },
    Kind {
        names: &["S3_ENDPOINT_SOURCE"],
        meaning: "the server is not asked for there",
        hint: || format!("Set {} to the server.", Setting::S3Endpoint),
    },
    Kind {
        names: &["S3_ROLE_ARN", "S3_ROLE_SESSION_NAME"],
        meaning: "no other role is taken on",
        hint: || {
            "Put \"role_arn\" and \"source_profile\" into a profile of the AWS configuration \
             file, and name the profile in AWS_PROFILE."
                .to_owned()
        },
    },
    Kind {
        names: &["S3_RETENTION_MODE", "S3_RETENTION_PERIOD"],
        meaning: "objects are not locked",
        hint: || "Remove it, and set a default retention for the bucket.".to_owned(),
    },
    Kind {
        names: &["S3_REQUEST_ADDITIONAL_HEADERS"],
        meaning: "requests do not have these headers",
        hint: || "Remove it; see the settings for S3 for what requests can ask for.".to_owned(),
    },
    Kind {
        names: &["FAILOVER_STORAGES"],
        meaning: "wal_e stores in one place only",
        hint: || format!("Remove it; {} says where wal_e stores.", Setting::Prefix),
    },
    Kind {
        names: &["AWS_ENDPOINT_URL_STS"],
        meaning: "roles are asked for at Amazon's address",
        hint: || "Remove it, or put keys into the directory of variables.".to_owned(),
    },
];

/// Those that count when they are "true".
const SWITCHES: &[Kind] = &[
    Kind {
        names: &["S3_USE_LIST_OBJECTS_V1"],
        meaning: "objects are listed with ListObjectsV2",
        hint: || "Remove it if the server knows ListObjectsV2, as nearly all do.".to_owned(),
    },
    Kind {
        names: &["AWS_USE_DUALSTACK_ENDPOINT", "AWS_USE_FIPS_ENDPOINT"],
        meaning: "requests go to the usual address of the region",
        hint: || format!("Set {} to the address that is meant.", Setting::S3Endpoint),
    },
];

/// Names with `S3_` that make no difference to what is stored and where.
const HARMLESS: &[&str] = &[
    "S3_BUCKET",
    "S3_ENDPOINT_PORT",
    "S3_LOG_LEVEL",
    "S3_MAX_PART_SIZE",
    "S3_MAX_RETRIES",
    "S3_MAX_THROTTLING_RETRY_DELAY",
    "S3_MIN_THROTTLING_RETRY_DELAY",
    "S3_RANGE_BATCH_ENABLED",
    "S3_RANGE_MAX_RETRIES",
    "S3_SKIP_VALIDATION",
];

impl Variables {
    /// Those that are not followed, wherever they stand.
    pub fn misfits(&self) -> Vec<Misfit> {
        let encrypts = Encryption::has_key(self);
        self.places.iter().flat_map(|place| of_place(place, encrypts)).collect()
    }

    /// The same for a server, with those that a program on the same host understands otherwise.
    /// `prefix` is the server's, which only its setting says.
    pub fn misfits_of_server(&self, prefix: Option<&Prefix>) -> Vec<Misfit> {
        let mut misfits = self.misfits();
        misfits.extend(prefix.and_then(|prefix| self.other_prefix(prefix)));
        misfits.extend(self.other_compression());
        misfits.extend(self.conflicts());
        misfits
    }

    fn other_prefix(&self, prefix: &Prefix) -> Option<Misfit> {
        let found = [Setting::S3Prefix, Setting::FilePrefix];
        let found = found.into_iter().find_map(|setting| self.find(setting))?;
        let value = match found.value.starts_with('/') {
            true => format!("file://{}", found.value),
            false => found.value,
        };
        let is_same = value.parse::<Prefix>().is_ok_and(|other| other == *prefix);
        (!is_same).then(|| Misfit {
            message: format!(
                "{} is another prefix than that of the server, \"{prefix}\"",
                found.name
            ),
            hint: format!(
                "Set both to the same, or remove the variable: wal-e uses it, the server goes by \
                 {} alone.",
                Setting::Prefix
            ),
        })
    }

    fn other_compression(&self) -> Option<Misfit> {
        let variables = CompressionVariables::find(self);
        let encoding = variables.encoding();
        let used = encoding.clone().ok().flatten().unwrap_or_default();
        let error = encoding.err().or_else(|| variables.compression(used).err())?;
        Some(Misfit {
            message: format!("{}; the server does not follow it", error.message_and_detail()),
            hint: error.hint().unwrap_or("Correct it.").to_owned(),
        })
    }

    /// What the first place says otherwise than the next. A program that the server runs takes
    /// them the other way round.
    fn conflicts(&self) -> Vec<Misfit> {
        let [first @ Place::EnvDir(_), next] = self.places.as_slice() else { return Vec::new() };
        let settings = Setting::ALL
            .iter()
            .filter(|setting| !matches!(setting, Setting::S3Prefix | Setting::FilePrefix));
        let settings = settings.map(|&setting| (first.find(setting), next.find(setting)));
        let names =
            AwsVariables::NAMES.iter().chain(&["AWS_ACCESS_KEY_ID"]).chain(Encryption::NAMES);
        let names = names.map(|name| (first.find_name(name), next.find_name(name)));
        let both = settings.chain(names).filter_map(|(first, next)| Some((first?, next?)));
        let differ = both.filter(|(first, next)| first.value != next.value);
        differ
            .map(|(used, other)| Misfit {
                message: format!(
                    "{} in {} and {} in {} differ",
                    used.name,
                    first.describe(),
                    other.name,
                    next.describe()
                ),
                hint: "Remove one of them: the server uses the former, and wal-e, where it is \
                       started by the server, the latter."
                    .to_owned(),
            })
            .collect()
    }
}

fn of_place(place: &Place, encrypts: bool) -> Vec<Misfit> {
    let misfit = |name: &str, meaning: &str, hint: String| Misfit {
        message: format!("{name} in {} is not followed: {meaning}", place.describe()),
        hint,
    };
    place
        .names()
        .filter_map(|name| {
            let (bare, is_ours) = bare(name, place)?;
            if encrypts && OPENPGP.contains(&bare) {
                return None;
            }
            let is_true = place.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let kinds = KINDS.iter().chain(SWITCHES.iter().filter(|_| is_true));
            if let Some(kind) = kinds.into_iter().find(|kind| kind.names.contains(&bare)) {
                return Some(misfit(name, kind.meaning, (kind.hint)()));
            }
            let is_unknown = is_ours && bare.starts_with("S3_") && !is_known(bare);
            is_unknown.then(|| {
                let hint = "Remove it, or see the reference of settings for what says the same.";
                misfit(name, "wal_e does not know it", hint.to_owned())
            })
        })
        .collect()
}

/// A name without its namespace, and whether it has one. Names without one are common words
/// in the environment of a process, except Amazon's.
fn bare<'a>(name: &'a str, place: &Place) -> Option<(&'a str, bool)> {
    let namespaces = NAMESPACES.iter().filter(|namespace| !namespace.is_empty());
    match namespaces.into_iter().find_map(|namespace| name.strip_prefix(namespace)) {
        Some(bare) => Some((bare, true)),
        None if place.is_env_dir() || name.starts_with("AWS_") => Some((name, false)),
        None => None,
    }
}

fn is_known(bare: &str) -> bool {
    HARMLESS.contains(&bare)
        || SWITCHES.iter().any(|kind| kind.names.contains(&bare))
        || Setting::ALL.iter().any(|setting| {
            let description = setting.describe();
            let names = setting.variable_names();
            description.variables.contains(&bare) || names.iter().any(|name| name.ends_with(bare))
        })
}

#[cfg(test)]
mod tests;
