//! Whether a connection pooler is on the way that gives each transaction another session.
//!
//! Backup mode belongs to a session: through such a pooler it would end in another one
//! than it began in, which is noticed hours later, and would stay on in the first.

use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage};
use wal_e_core::{Error, ErrorKind, Result};

use super::connect::{self, Connected};
use super::libpq::Settings;
use super::query_error::query_error;

/// How often a session is asked which process it is.
const TIMES: usize = 5;

/// How long a second session is waited for. A pooler whose sessions are all taken lets it
/// wait, and that is an answer, too.
const PATIENCE: Duration = Duration::from_secs(3);

/// The process of the server that answers.
pub async fn process(client: &Client) -> Result<i32> {
    let failed = |error| query_error("could not ask the server for its process", &error);
    let answer = client.simple_query("SELECT pg_catalog.pg_backend_pid()").await.map_err(failed)?;
    let process = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    process.ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "the server does not say which process it is")
    })
}

/// Returns the process of a session that stays with one, and only then.
///
/// A server says at the beginning which process it is; one that another process answers for
/// is a pooler. Of that it is found out whether it lets another session have the process
/// while this one has nothing to ask.
///
/// # Errors
/// [`ErrorKind::Config`] when the process changes between transactions.
pub async fn refuse_changing_process(
    settings: &Settings,
    client: &Client,
    announced: Option<i32>,
    route: &connect::Route,
) -> Result<i32> {
    let first = process(client).await?;
    if announced == Some(first) {
        return Ok(first);
    }
    for _ in 1..TIMES {
        check(client, first).await?;
    }
    let another = another_session(settings, client, route, first);
    // When nothing was free for it in that time, this session keeps what it has.
    if let Ok(checked) = tokio::time::timeout(PATIENCE, another).await {
        checked?;
    }
    check(client, first).await?;
    Ok(first)
}

/// Checks that the process is the one that it was.
///
/// # Errors
/// [`ErrorKind::Config`] when it is not.
pub async fn check(client: &Client, expected: i32) -> Result<()> {
    match process(client).await? {
        now if now == expected => Ok(()),
        now => Err(changes(expected, now)),
    }
}

/// Has another session hold transactions open, and looks whose process it gets.
async fn another_session(
    settings: &Settings,
    client: &Client,
    route: &connect::Route,
    first: i32,
) -> Result<()> {
    let Ok(Connected { client: other, connection, .. }) =
        connect::begin_session(settings, route).await
    else {
        return Ok(());
    };
    let driving = tokio::spawn(connection);
    let looking = async {
        for _ in 0..TIMES {
            // What this session had last is what a pooler gives away first.
            check(client, first).await?;
            if other.batch_execute("BEGIN").await.is_err() {
                return Ok(());
            }
            if process(&other).await? == first {
                return Err(changes(first, first));
            }
            check(client, first).await?;
            let _ = other.batch_execute("COMMIT").await;
        }
        Ok(())
    };
    let looked = looking.await;
    driving.abort();
    looked
}

fn changes(first: i32, then: i32) -> Error {
    let message =
        "a connection pooler on the way to the server gives each transaction another session";
    let detail = match first == then {
        true => format!("The server's process {first} answered two sessions at the same time."),
        false => format!("The server's process {first} answered, and then process {then}."),
    };
    Error::new(ErrorKind::Config, message).with_detail(detail).with_hint(
        "A base backup begins and ends in one session. Connect to the server itself: set PGHOST to its socket directory and PGPORT to its port, or have the pooler give this role a session of its own (pool_mode = session).",
    )
}
