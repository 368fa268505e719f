//! What `--help` says of environment variables.

use wal_e_core::config::Setting;

/// Where the second column begins.
const COLUMN: usize = 42;

const BEGIN: &str = "\
Environment:
  Each setting is taken from the command line, else from the environment, else
  from the directory of --env-dir (one file for each variable). A variable may
  begin with WALE_ or WALG_, which count before the bare name.

";

const END: &str = "  WALG_ZSTD_LEVEL                         as --compression-level, for zstd
  WALG_LIBSODIUM_KEY_PATH, WALG_LIBSODIUM_KEY, WALG_LIBSODIUM_KEY_TRANSFORM
                                          key to encrypt with
  WALE_LIBSODIUM_OLD_KEYS_PATH            file of keys to read with
  WALG_PGP_KEY_PATH, WALG_PGP_KEY, WALG_PGP_KEY_PASSPHRASE,
  WALG_PGP_KEY_PASSPHRASE_PATH            secret keys of OpenPGP to read with
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
                                          credentials; without them the AWS default
                                          chain applies (profile, web identity,
                                          container, instance)
  PGHOST, PGPORT, PGUSER, PGSERVICE, PGPASSFILE, PGSSLMODE and the others of libpq
                                          server of backup-push
";

/// The variables of each setting, and the others.
pub fn help() -> String {
    let settings = Setting::ALL.iter().filter_map(|&setting| row(setting));
    [BEGIN.to_owned()].into_iter().chain(settings).chain([END.to_owned()]).collect()
}

/// The names without WALE_ and WALG_ where they may be without, and the option that
/// means the same.
fn row(setting: Setting) -> Option<String> {
    let option = setting.describe().option?.name;
    let bare = setting.describe().namespaces.contains(&"");
    let names = match bare {
        true => setting.describe().variables.join(", "),
        false => setting.variable_names().join(", "),
    };
    let line_end = if names.len() + 3 > COLUMN { "\n" } else { "" };
    let gap = COLUMN - if line_end.is_empty() { 2 + names.len() } else { 0 };
    let gap = " ".repeat(gap);
    (!names.is_empty()).then(|| format!("  {names}{line_end}{gap}as --{option}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_of_a_setting_is_named() {
        let help = help();
        let names = Setting::ALL.iter().flat_map(|setting| setting.describe().variables);
        for name in names {
            assert!(help.contains(name), "{name} is not in:\n{help}");
        }
        assert!(help.contains(&format!("\n  {:<40}as --s3-timeout\n", "S3_TIMEOUT")), "{help}");
        assert!(help.lines().all(|line| line.len() <= 2 * COLUMN), "{help}");
    }
}
