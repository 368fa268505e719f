//! What a caller that waits hears of the work, and what PostgreSQL's own view shows of it.

use std::sync::{Arc, Mutex};

use postgres::{Client, Config, NoTls};
use wal_e_e2e::archive::Archive;
use wal_e_e2e::base_backup::BACKUP_WORKER;
use wal_e_e2e::cluster::{Cluster, rows};
use wal_e_e2e::fault_proxy::Fault;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::wait::wait_for;

type Heard = Arc<Mutex<Vec<String>>>;

/// A session, and the notices that it gets.
fn listening_client(cluster: &Cluster) -> (Client, Heard) {
    let heard = Heard::default();
    let client = Config::new()
        .host_path(cluster.socket_directory())
        .user("postgres")
        .dbname("postgres")
        .notice_callback({
            let heard = Arc::clone(&heard);
            move |notice| {
                heard.lock().unwrap().push(format!("{}: {}", notice.severity(), notice.message()));
            }
        })
        .connect(NoTls)
        .expect("the server lets it in");
    (client, heard)
}

fn taken(heard: &Heard) -> Vec<String> {
    std::mem::take(&mut *heard.lock().unwrap())
}

#[test]
fn a_caller_hears_how_far_a_backup_is_unless_it_wants_not_to() {
    for version in PgVersion::tested() {
        let archive = Archive::file();
        // All of the new cluster takes about ten seconds.
        let cluster = Cluster::build(version)
            .configuration("wal_e.backup_read_rate_limit = '2200kB'")
            .start_archiving_to(&archive);
        let (mut client, heard) = listening_client(&cluster);
        let name = rows(&mut client, "SELECT wale_backup_push()").expect("the backup succeeds");
        let name = name[0][0].clone().expect("it has a name");
        let notices = taken(&heard);
        let begin = format!("NOTICE: base backup \"{name}\": uploading files, ");
        let progress = notices.iter().find_map(|notice| notice.strip_prefix(&begin));
        let progress = progress.unwrap_or_else(|| panic!("{notices:?}"));
        for part in ["B of ", " %), ", "/s", "about ", " left"] {
            assert!(progress.contains(part), "{progress}");
        }

        // Without WAL it looks at every page, and sends hardly any.
        cluster.forget_wal();
        let name = rows(&mut client, "SELECT wale_backup_push(incremental => true)");
        let name = name.expect("the backup succeeds")[0][0].clone().expect("it has a name");
        assert!(name.contains("_D_"), "{name}");
        let notices = taken(&heard);
        let begin = format!("NOTICE: base backup \"{name}\": uploading files, ");
        let progress = notices.iter().find_map(|notice| notice.strip_prefix(&begin));
        let progress = progress.unwrap_or_else(|| panic!("{notices:?}"));
        assert!(progress.contains("B to send so far, looked at "), "{progress}");
        let counted = cluster.backup_progress();
        let number = |column: &str| counted[column].parse::<u64>().expect("it is a number");
        assert!(number("bytes_read") >= number("bytes_total") / 2, "{counted:?}");

        client.batch_execute("SET client_min_messages = warning").expect("it can be set");
        cluster.execute("SELECT pg_logical_emit_message(false, 'test', 'between backups')");
        cluster.archive_current_wal();
        rows(&mut client, "SELECT wale_backup_push()").expect("the backup succeeds");
        assert_eq!(taken(&heard), Vec::<String>::new());
    }
}

#[test]
fn a_caller_hears_how_far_a_verification_is() {
    let archive = Archive::s3();
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.create_incompressible_table("noise", 16);
    cluster.archive_current_wal();
    cluster.backup_push();
    archive.proxy().set(Fault::Throttle(500_000));
    let (mut client, heard) = listening_client(&cluster);
    rows(&mut client, "SELECT count(*) FROM wale_backup_verify()").expect("it can be read");
    let notices = taken(&heard);
    let of_tars = "NOTICE: verification of base backup \"LATEST\": reading tars, ";
    let progress = notices.iter().find_map(|notice| notice.strip_prefix(of_tars));
    assert!(progress.is_some_and(|progress| progress.contains(" %), ")), "{notices:?}");
}

#[test]
fn a_running_backup_is_in_the_view_of_postgresql() {
    for version in PgVersion::tested() {
        let archive = Archive::file();
        let cluster = Cluster::build(version)
            .configuration("wal_e.backup_read_rate_limit = '200kB'")
            .start_archiving_to(&archive);
        let view =
            "SELECT pid, phase, backup_total, backup_streamed FROM pg_stat_progress_basebackup";
        assert!(cluster.query(view).is_empty());
        let backup = cluster.backup_push_in_background();
        let worker = cluster.pid_of(BACKUP_WORKER).to_string();
        let row =
            wal_e_e2e::wait::wait_until("files to be read", wal_e_e2e::wait::PATIENCE, || {
                let row = cluster.query(view).into_iter().next()?;
                (row[1] == "streaming database files" && row[3] != "0").then_some(row)
            });
        assert_eq!(row[0], worker);
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let progress = cluster.backup_progress();
        assert_eq!(progress["bytes_total"], row[2], "{progress:?}");
        assert!(number(&row[3]) <= number(&progress["bytes_read"]), "{row:?} and {progress:?}");
        assert!(number(&row[3]) < number(&row[2]), "{row:?}");
        backup.cancel();
        backup.result().expect_err("it was canceled");
        wait_for("the row to be gone", || cluster.query(view).is_empty());
    }
}
