//! Connection strings of libpq, which must not hold a secret.

/// Keywords whose values are secrets.
const SECRETS: [&str; 2] = ["password", "sslpassword"];

/// A connection string for `primary_conninfo`. Every user of the machine can read a
/// command line, so one with a password is refused.
///
/// PostgreSQL 15, `src/interfaces/libpq/fe-connect.c`, `conninfo_parse` and
/// `conninfo_uri_parse_options`.
pub fn without_password(text: &str) -> Result<String, String> {
    let uri = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let has_secret = match uri {
        Some(rest) => uri_has_secret(rest),
        None => keywords(text)?.iter().any(|keyword| SECRETS.contains(&keyword.as_str())),
    };
    if has_secret {
        return Err("a password on the command line can be read by every user of the machine. \
                    Put it into ~/.pgpass of the server's user, or name a file with passfile=..."
            .to_owned());
    }
    Ok(text.to_owned())
}

fn uri_has_secret(rest: &str) -> bool {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = place.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let has_password = user.split_once(':').is_some_and(|(_, password)| !password.is_empty());
    let names = query.split('&').filter_map(|pair| pair.split('=').next());
    has_password || names.into_iter().any(|name| SECRETS.contains(&name))
}

/// The keywords of `keyword = value` pairs, whose values may be quoted.
fn keywords(text: &str) -> Result<Vec<String>, String> {
    let wrong = || "it must be pairs of keyword=value, or a postgresql:// URI".to_owned();
    let mut keywords = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (keyword, after) = rest.split_once('=').ok_or_else(wrong)?;
        let keyword = keyword.trim_end();
        if keyword.is_empty() || keyword.contains(char::is_whitespace) {
            return Err(wrong());
        }
        keywords.push(keyword.to_owned());
        let value = after.trim_start();
        let (quoted, value) = match value.strip_prefix('\'') {
            Some(value) => (true, value),
            None => (false, value),
        };
        let mut characters = value.char_indices();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => {
                    characters.next();
                }
                Some((at, '\'')) if quoted => break at + 1,
                Some((at, c)) if !quoted && c.is_whitespace() => break at,
                Some(_) => {}
                None if quoted => return Err(wrong()),
                None => break value.len(),
            }
        };
        rest = value[end..].trim_start();
    }
    Ok(keywords)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_is_taken_without_a_password_only() {
        for text in [
            "host=10.0.0.1 port = 5433 user=replication",
            r"host='a b\'s password=x' user=u\ v",
            "",
            "postgresql://u@h:5432/db?sslmode=require",
            "postgres:///db?passfile=/x",
        ] {
            assert_eq!(without_password(text).as_deref(), Ok(text));
        }
        for text in [
            "host=h password=secret",
            "password = 'se cret' host=h",
            "host='h'password=secret",
            "postgresql://u:secret@h/db",
            "postgres://h/db?password=secret",
        ] {
            let refused = without_password(text).unwrap_err();
            assert!(refused.contains("passfile") && !refused.contains("secret"), "{refused}");
        }
        for text in ["host", "host='open", "= x", "a b = c"] {
            assert!(without_password(text).is_err(), "{text}");
        }
    }
}
