//! How long a single WAL segment waits when nothing else does.
//!
//! From its mark ".ready" to its mark ".done", as the system tells of both. The server
//! wakes the archiver right after it has made the mark, so the interval at which the
//! archiver looks by itself is no part of it; the server's own look into
//! `archive_status` and its renaming of the mark are. After each segment the bytes that
//! were stored for it are stored once more by the core's own client, with nothing
//! around it, on a connection that is open as the archiver's is.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Runtime;
use wal_e_core::config::{
    Credentials, S3Config, Secret, StaticCredentials, StoreConfig, StorePlace,
};
use wal_e_core::layout::ObjectKey;
use wal_e_core::notice;
use wal_e_core::store::retry::Patience;
use wal_e_core::store::{Attributes, ObjectStore, PutMode, PutOutcome};
use wal_e_e2e::archive::{Archive, BUCKET};
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;

use crate::SERVER;
use crate::contender::Archiver;
use crate::options::Options;
use crate::recovery::lsn;
use crate::statistics::{median, percentile};
use crate::status_marks::StatusMarks;
use crate::table::{Column, Form, Table};
use crate::wal_e::WalE;

const FORM: Form = Form {
    task: "acknowledge",
    columns: &[
        Column::with_spread("p50_ms", "p50 ms", 2),
        Column::new("p95_ms", "p95 ms", 2),
        Column::new("max_ms", "max ms", 2),
        Column::new("p50_above_put_ms", "above PUT ms", 2),
        Column::new("stored_kb", "stored kB", 0),
    ],
    ratios: &[],
    note: "From the server's mark that a segment is ready, at which it wakes the archiver, to its mark that it is \
           done; so with the\nserver's own steps, and without the interval at which an archiver that was not \
           woken looks by itself. By its log: from wal_e's\nfirst look at the segment to the store's answer, in \
           whole milliseconds. Bare PUT: the same stored bytes by the core's client.",
};

/// What is in a segment.
#[derive(Debug, Clone, Copy)]
enum Content {
    /// A few records, and zeros after them, as `archive_timeout` leaves it.
    Little,
    /// Rows of a table, nearly to its end.
    Much,
}

impl Content {
    fn name(self) -> &'static str {
        match self {
            Content::Little => "nearly empty",
            Content::Much => "full",
        }
    }

    /// Writes a segment, and names it.
    fn write(self, cluster: &Cluster) -> String {
        if let Content::Much = self {
            let insert_lsn = "SELECT pg_current_wal_insert_lsn()";
            let begin = cluster.query_one(insert_lsn);
            cluster.execute(FILL);
            let end = cluster.query_one(insert_lsn);
            let length = lsn(&end).zip(lsn(&begin)).map(|(end, begin)| end - begin);
            // The segment before has just been ended, so that all of it is in the next one.
            assert!(length.is_some_and(|length| length < SEGMENT), "from {begin} to {end}");
        }
        cluster.switch_wal()
    }
}

/// Bytes of a segment.
const SEGMENT: u64 = 16 << 20;

/// Less WAL than a segment has, and not much less.
const FILL: &str = "TRUNCATE filler; \
    INSERT INTO filler SELECT i, md5(i::text) FROM generate_series(1, 110000) i";

/// What was measured of one content in one round, in milliseconds.
#[derive(Default)]
struct Samples {
    put: Vec<f64>,
    waited: Vec<f64>,
    logged: Vec<f64>,
    /// In units of 1000 bytes.
    stored: Vec<f64>,
}

const PATIENCE: Patience = Patience {
    give_up_after: Duration::from_secs(10),
    without_answer: Duration::from_secs(10),
    first_delay: Duration::from_millis(10),
    longest_delay: Duration::from_millis(100),
};

/// Measures so many segments in each round, on the S3 server of the tests.
pub fn measure(options: &Options) -> Table {
    let count = options.acknowledgements;
    println!("acknowledge: {count} segments, one at a time ...");
    let wal_e = WalE::on_s3();
    let cluster = Cluster::build(PgVersion::oldest())
        .configuration_lines(SERVER.iter().map(|line| (*line).to_owned()))
        .configuration_lines(wal_e.settings_idle())
        .configuration(wal_e.setting_to_begin())
        .start();
    cluster.archive_current_wal();
    let bare = BarePut::to(wal_e.archive());
    let marks = StatusMarks::watch(cluster.data_directory());
    cluster.execute("CREATE TABLE filler (number integer, text text)");
    cluster.archive_current_wal();
    let title = format!("acknowledgement of one segment, {count} a round");
    let mut table = Table::new(&FORM, title);
    for round in 1..=options.rounds {
        for content in [Content::Little, Content::Much] {
            let mut samples = Samples::default();
            for index in 0..count {
                let name = content.write(&cluster);
                samples.waited.push(milliseconds(marks.waited(&name)));
                samples.logged.push(logged_milliseconds(&cluster, &name));
                let object = wal_e.archive().wal_object(&name);
                let object = object.unwrap_or_else(|| panic!("{name} is marked and not stored"));
                samples.stored.push(object.len() as f64 / 1e3);
                let key = format!("{round}/{}/{index}", content.name().replace(' ', "-"));
                samples.put.push(milliseconds(bare.put(&key, object)));
            }
            samples.add_to(&mut table, content);
        }
    }
    table
}

impl Samples {
    fn add_to(self, table: &mut Table, content: Content) {
        let stored_kb = median(&self.stored).unwrap_or_default();
        let of_put = percentile(&self.put, 50.0).unwrap_or_default();
        for (what, samples) in [
            ("bare PUT", self.put),
            ("wal_e, .ready to .done", self.waited),
            ("wal_e, by its log", self.logged),
        ] {
            let name = format!("{}: {what}", content.name());
            table.add_with_samples(&name, figures(&samples, of_put, stored_kb), samples);
        }
    }
}

fn figures(samples: &[f64], of_put: f64, stored_kb: f64) -> Vec<(&'static str, f64)> {
    let of = |of_hundred| percentile(samples, of_hundred).unwrap_or_default();
    vec![
        ("p50_ms", of(50.0)),
        ("p95_ms", of(95.0)),
        ("max_ms", of(100.0)),
        ("p50_above_put_ms", of(50.0) - of_put),
        ("stored_kb", stored_kb),
    ]
}

/// What wal_e says itself of a WAL file: from its first look at it to the store's confirmation.
fn logged_milliseconds(cluster: &Cluster, name: &str) -> f64 {
    let line = cluster.wait_for_log(&format!("archived WAL file \"{name}\": "));
    let seconds =
        line.strip_suffix(" s").and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    seconds.unwrap_or_else(|| panic!("no time in \"{line}\"")) * 1e3
}

/// The core's client, and nothing above it.
struct BarePut {
    runtime: Runtime,
    store: std::sync::Arc<dyn ObjectStore>,
}

impl BarePut {
    /// Beside the archive, on the same server, with a connection that is open.
    fn to(archive: &Archive) -> BarePut {
        let server = archive.server();
        let config = S3Config {
            endpoint: Some(server.endpoint()),
            credentials: Some(Credentials::Given(StaticCredentials {
                access_key_id: server.access_key().to_owned(),
                secret_access_key: Secret::new(server.secret_key()),
                session_token: None,
                source: "the benchmark".to_owned(),
            })),
            ..S3Config::new(BUCKET, "bare")
        };
        let runtime = Runtime::new().expect("a runtime can be had");
        let (notices, _) = notice::channel();
        let config = StoreConfig::from(StorePlace::S3(config));
        let store = runtime.block_on(wal_e_core::store::open(&config, PATIENCE, notices));
        let store = store.unwrap_or_else(|error| panic!("{error:?}"));
        let bare = BarePut { runtime, store };
        bare.put("first", Vec::new());
        bare
    }

    /// Creates an object as the archiver does; says how long that took.
    fn put(&self, name: &str, bytes: Vec<u8>) -> Duration {
        let key = ObjectKey::from_listing(name).expect("it is a key");
        let bytes = Bytes::from(bytes);
        let began = Instant::now();
        let outcome = self.runtime.block_on(self.store.put(
            &key,
            bytes,
            PutMode::CreateOnly,
            &Attributes::default(),
        ));
        let took = began.elapsed();
        let outcome = outcome.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(outcome, PutOutcome::Stored);
        took
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
