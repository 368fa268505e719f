//! Connections, statements and their answers.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::wait::slowness;

use super::{Cluster, SUPERUSER};

/// After this a statement counts as hung.
const LONGEST_STATEMENT: Duration = Duration::from_secs(120);

impl Cluster {
    /// A connection to the database "postgres" as superuser.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.client_to("postgres")
    }

    /// A connection to `database` as superuser.
    #[track_caller]
    pub fn client_to(&self, database: &str) -> Client {
        self.try_client(database).unwrap_or_else(|error| {
            panic!("could not connect to \"{database}\": {error}\n{}", self.log_tail())
        })
    }

    /// A connection to `database` as superuser, if the server takes it.
    pub fn try_client(&self, database: &str) -> Result<Client, postgres::Error> {
        Config::new()
            .host_path(self.socket_directory())
            .port(self.port)
            .user(SUPERUSER)
            .dbname(database)
            // A statement that waits for ever ends the test, and not its server.
            .options(&format!(
                "-c statement_timeout={}",
                (LONGEST_STATEMENT * slowness()).as_millis()
            ))
            .connect_timeout(Duration::from_secs(10))
            .connect(NoTls)
    }

    /// The rows of a query as text, as psql would print them.
    pub fn try_query(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, postgres::Error> {
        let mut client = self.try_client(database)?;
        // Base backups and verifications have no limit of time of their own.
        cancelled_after(&mut client, LONGEST_STATEMENT, |client| rows(client, sql))
    }

    /// The rows of a query in the database "postgres" as text; NULL is empty.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let answer = self
            .try_query("postgres", sql)
            .unwrap_or_else(|error| panic!("{sql}\n{}", describe(&error)));
        answer
            .into_iter()
            .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
            .collect()
    }

    /// The first column of the one row of a query; NULL is empty.
    #[track_caller]
    pub fn query_one(&self, sql: &str) -> String {
        let mut answer = self.query(sql);
        assert_eq!(answer.len(), 1, "one row is wanted: {sql}");
        answer.remove(0).into_iter().next().expect("a row has a column")
    }

    /// Runs statements whose answer does not matter.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        self.execute_in("postgres", sql);
    }

    /// Runs statements in `database`.
    #[track_caller]
    pub fn execute_in(&self, database: &str, sql: &str) {
        self.client_to(database)
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{sql}\n{}", describe(&error)));
    }

    /// The error of a statement that has to fail: its SQLSTATE and all its text.
    #[track_caller]
    pub fn failure_of(&self, sql: &str) -> SqlFailure {
        match self.try_query("postgres", sql) {
            Ok(_) => panic!("succeeded although it must not: {sql}"),
            Err(error) => SqlFailure::of(&error),
        }
    }
}

/// What a statement failed with.
#[derive(Debug, Clone)]
pub struct SqlFailure {
    /// The five characters of the SQLSTATE.
    pub sqlstate: String,
    /// Message, detail and hint, each on a line.
    pub text: String,
}

impl SqlFailure {
    /// The failure that the server answered with.
    #[track_caller]
    pub fn of(error: &postgres::Error) -> SqlFailure {
        let Some(answer) = error.as_db_error() else {
            panic!("the server gave no answer: {error}");
        };
        SqlFailure { sqlstate: answer.code().code().to_owned(), text: describe(error) }
    }
}

/// The rows of a query as text.
pub fn rows(client: &mut Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, postgres::Error> {
    let messages = client.simple_query(sql)?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}

/// Does `work` with a client, and cancels its statement when that takes longer than `limit`.
pub fn cancelled_after<T>(
    client: &mut Client,
    limit: Duration,
    work: impl FnOnce(&mut Client) -> T,
) -> T {
    let cancel = client.cancel_token();
    let (done, is_done) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if is_done.recv_timeout(limit * slowness()) == Err(RecvTimeoutError::Timeout) {
            // Without a server there is nothing to cancel.
            let _ = cancel.cancel_query(NoTls);
        }
    });
    let result = work(client);
    drop(done);
    watch.join().expect("it does not panic");
    result
}

/// Message, detail and hint of an error.
pub fn describe(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(answer) => [Some(answer.message()), answer.detail(), answer.hint()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n"),
        None => error.to_string(),
    }
}
