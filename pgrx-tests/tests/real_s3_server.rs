//! An S3 server that was not written here: what it can do, whether wal_e knows that, the
//! contract of stores, and everything that wal_e is for.
//!
//! Which server, and how to name one, is in `wal_e_e2e::real_server`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, RequestChecksumCalculation, retry::RetryConfig};
use aws_sdk_s3::config::{Credentials, Region};
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart};
use futures_util::{StreamExt, stream};
use wal_e_core::config::{StoreConfig, StorePlace};
use wal_e_core::notice;
use wal_e_core::store::retry::Patience;
use wal_e_core::store::{ListRequest, ObjectStore, conformance, list_all};
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::PgVersion;
use wal_e_e2e::plain_http;
use wal_e_e2e::real_server::RealServer;
use wal_e_e2e::restore::Restore;
use wal_e_e2e::wal_e::run_wal_e;

/// What a server may lack, as `WALE_TEST_S3_LACKS` names it.
const CREATE_ONLY: &str = "create_only";
const CREATE_ONLY_IN_PARTS: &str = "create_only_in_parts";
const CHECKSUM_COMPARED: &str = "checksum_compared";
const CHECKSUM_KEPT: &str = "checksum_kept";
const IF_MATCH: &str = "if_match";
const EMPTY_PART: &str = "empty_part";

/// The checks of the contract that a server does not pass that lacks something.
const CANNOT_HOLD: [(&str, &str); 2] =
    [(CREATE_ONLY, conformance::RACING), (EMPTY_PART, conformance::EMPTY_PART)];

fn client(server: &RealServer) -> Client {
    let (id, secret) = (server.access_key_id.clone(), server.secret_access_key.clone());
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(server.region.clone()))
        .endpoint_url(&server.endpoint)
        .force_path_style(true)
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .http_client(plain_http::client())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// The server, with its bucket.
async fn server() -> (RealServer, Client) {
    let server = RealServer::start();
    let client = client(&server);
    if client.head_bucket().bucket(&server.bucket).send().await.is_err()
        && let Err(error) = client.create_bucket().bucket(&server.bucket).send().await
        // Another test may have made it at the same moment.
        && let Err(_) = client.head_bucket().bucket(&server.bucket).send().await
    {
        panic!("the bucket \"{}\": {}", server.bucket, DisplayErrorContext(error));
    }
    (server, client)
}

/// Enough for a server that is busy, and soon at its end where one answers 500 for what is not
/// there (moto).
const PATIENCE: Patience = Patience {
    give_up_after: Duration::from_secs(3),
    without_answer: Duration::from_secs(30),
    first_delay: Duration::from_millis(50),
    longest_delay: Duration::from_secs(1),
};

async fn store(server: &RealServer, path: &str) -> Arc<dyn ObjectStore> {
    let (notices, _queue) = notice::channel();
    let config = StoreConfig::from(StorePlace::S3(server.config(path)));
    let store = wal_e_core::store::open(&config, PATIENCE, notices).await;
    store.unwrap_or_else(|error| panic!("{error:?}"))
}

async fn remove_all(store: &dyn ObjectStore) {
    let left = list_all(store, &ListRequest::default()).await.expect("it can be listed");
    let removals = stream::iter(left).for_each_concurrent(16, |object| async move {
        store.delete(&object.key).await.expect("it can be removed");
    });
    removals.await;
}

/// The status of a refusal; `None` for success.
fn refused<T, E: std::fmt::Debug>(result: Result<T, SdkError<E>>) -> Option<u16> {
    let Err(error) = result else { return None };
    let response = error.raw_response();
    Some(response.unwrap_or_else(|| panic!("there is no answer: {error:?}")).status().as_u16())
}

/// One server, one key, and requests as wal_e does not make them.
struct Asked<'a> {
    client: &'a Client,
    bucket: &'a str,
    key: String,
}

impl Asked<'_> {
    fn put(&self) -> aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder {
        let content = b"content".to_vec().into();
        self.client.put_object().bucket(self.bucket).key(&self.key).body(content)
    }

    async fn begin(&self) -> String {
        let upload = self.client.create_multipart_upload().bucket(self.bucket).key(&self.key);
        let upload = upload.send().await.expect("an upload in parts begins");
        upload.upload_id.expect("it has a number")
    }

    async fn abort(&self, id: &str) {
        let abort = self.client.abort_multipart_upload().bucket(self.bucket).key(&self.key);
        abort.upload_id(id).send().await.expect("an upload can be given up");
    }

    fn part(
        &self,
        id: &str,
        body: &'static [u8],
    ) -> aws_sdk_s3::operation::upload_part::builders::UploadPartFluentBuilder {
        let part = self.client.upload_part().bucket(self.bucket).key(&self.key).upload_id(id);
        part.part_number(1).body(ByteStream::from_static(body))
    }

    async fn takes_an_empty_part(&self) -> bool {
        let id = self.begin().await;
        let refused = refused(self.part(&id, b"").send().await);
        self.abort(&id).await;
        refused.is_none()
    }

    /// Uploads in parts, create-only, what is there already.
    async fn refuses_to_replace_in_parts(&self) -> bool {
        let id = self.begin().await;
        let part = self.part(&id, b"part").send().await;
        let e_tag = part.expect("a part is stored").e_tag.expect("it has a tag");
        let part = CompletedPart::builder().part_number(1).e_tag(e_tag).build();
        let parts = CompletedMultipartUpload::builder().parts(part).build();
        let complete = self.client.complete_multipart_upload().bucket(self.bucket).key(&self.key);
        let complete = complete.upload_id(&id).multipart_upload(parts).if_none_match("*");
        let refused = refused(complete.send().await);
        if refused.is_some() {
            self.abort(&id).await;
        }
        refused == Some(412)
    }

    /// What the server lacks, in the words of `WALE_TEST_S3_LACKS`.
    async fn lacks(&self) -> BTreeSet<String> {
        // CRC-32C of "content".
        let right = "Ya91Mw==";
        let with = |checksum| {
            self.put().checksum_algorithm(ChecksumAlgorithm::Crc32C).checksum_crc32_c(checksum)
        };
        let stored = refused(with(right).send().await);
        assert!(stored.is_none() || stored == Some(400) || stored == Some(501), "{stored:?}");
        let head = self.client.head_object().bucket(self.bucket).key(&self.key);
        let head = head.checksum_mode(ChecksumMode::Enabled).send().await;
        let kept = head.is_ok_and(|head| head.checksum_crc32_c() == Some(right));
        let wrong = refused(with("AAAAAA==").send().await);
        let get = self.client.get_object().bucket(self.bucket).key(&self.key);
        let other = refused(get.if_match("\"00112233445566778899aabbccddeeff\"").send().await);
        let create = refused(self.put().if_none_match("*").send().await);
        let can = [
            (CHECKSUM_KEPT, kept),
            (CHECKSUM_COMPARED, wrong == Some(400)),
            (IF_MATCH, other == Some(412)),
            (CREATE_ONLY, create == Some(412)),
            (EMPTY_PART, self.takes_an_empty_part().await),
            (CREATE_ONLY_IN_PARTS, self.refuses_to_replace_in_parts().await),
        ];
        let lacks = can.into_iter().filter(|(_, can)| !can);
        lacks.map(|(name, _)| name.to_owned()).collect()
    }
}

#[tokio::test]
async fn the_server_lacks_what_it_is_known_to_lack() {
    let (server, client) = server().await;
    let key = format!("{}/key", server.new_path());
    let asked = Asked { client: &client, bucket: &server.bucket, key };
    let lacks = asked.lacks().await;
    println!("lacks: {lacks:?}");
    let removed = client.delete_object().bucket(&server.bucket).key(&asked.key).send().await;
    removed.expect("an object can be removed");
    assert_eq!(lacks, server.lacks, "measured, and what WALE_TEST_S3_LACKS says");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_keeps_the_contract() {
    let (server, _) = server().await;
    let store = store(&server, &server.new_path()).await;
    let mut broken = Vec::new();
    for name in conformance::CHECKS {
        let checked = Arc::clone(&store);
        let check = tokio::spawn(async move { conformance::run(checked.as_ref(), name).await });
        let is_known = |(lack, check): &(&str, &str)| check == name && server.lacks.contains(*lack);
        let outcome = match (check.await, CANNOT_HOLD.iter().find(|known| is_known(known))) {
            (Ok(()), _) => "holds".to_owned(),
            (Err(_), Some((lack, _))) => format!("does not hold, as is known without {lack}"),
            (Err(_), None) => {
                broken.push(*name);
                "BROKEN".to_owned()
            }
        };
        println!("contract: {name}: {outcome}");
    }
    remove_all(store.as_ref()).await;
    assert_eq!(broken, Vec::<&str>::new());
}

/// Name, whether it is as it should be, and what is said, of each row of `wale_check()`.
fn check(cluster: &Cluster) -> Vec<(String, Option<bool>, String)> {
    let rows = cluster
        .try_query(
            "postgres",
            "SELECT check_name, ok, concat_ws('; hint: ', detail, hint) FROM wale_check()",
        )
        .unwrap_or_else(|error| panic!("{error:?}"));
    rows.into_iter()
        .map(|row| {
            let [name, ok, said]: [Option<String>; 3] = row.try_into().expect("three columns");
            (name.unwrap_or_default(), ok.map(|ok| ok == "t"), said.unwrap_or_default())
        })
        .collect()
}

#[test]
fn wale_check_knows_what_the_server_lacks() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (server, _) = runtime.block_on(server());
    let path = server.new_path();
    let archive = server.archive(&path);
    let cluster =
        Cluster::build(PgVersion::oldest()).wal_segment_size_mb(1).start_archiving_to(&archive);
    cluster.archive_current_wal();
    let rows = check(&cluster);
    for (name, ok, said) in &rows {
        println!(
            "wale_check: {name}: {}: {said}",
            ok.map_or("-", |ok| if ok { "ok" } else { "no" })
        );
    }
    let row = |name: &str| rows.iter().find(|row| row.0 == name).expect("there is such a row");
    let lacks = |name: &str| server.lacks.contains(name);
    assert_eq!(row("create_only").1, Some(!lacks(CREATE_ONLY)));
    let multipart = row("multipart");
    match (lacks(CREATE_ONLY), lacks(CREATE_ONLY_IN_PARTS)) {
        // Without the one, wal_e does not ask for the other.
        (true, _) => assert_eq!(multipart.1, Some(true)),
        (false, true) => assert_eq!(multipart.1, None),
        (false, false) => assert!(multipart.2.ends_with("and replace no object"), "{multipart:?}"),
    }
    let unconfirmed = row("upload_checksum").2.contains("the server does not confirm it");
    assert_eq!(unconfirmed, lacks(CHECKSUM_KEPT), "{:?}", row("upload_checksum"));
    for name in ["readable", "writable", "listable", "checksum", "deletable", "upload_checksum"] {
        assert_eq!(row(name).1, Some(true), "{:?}", row(name));
    }
    drop(cluster);
    runtime.block_on(async { remove_all(store(&server, &path).await.as_ref()).await });
}

/// Large enough for a base backup to be an upload of several parts.
const TABLE_MEGABYTES: u32 = 24;

#[test]
fn a_cluster_is_archived_backed_up_verified_and_restored_to_a_point_in_time() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (server, _) = runtime.block_on(server());
    let path = server.new_path();
    let archive = server.archive(&path);
    let cluster = Cluster::build(PgVersion::oldest()).start_archiving_to(&archive);
    cluster.create_incompressible_table("large", TABLE_MEGABYTES);
    cluster.pgbench_init(1);
    let backup = cluster.backup_push();
    cluster.pgbench(500);
    let time = cluster.query_one("SELECT clock_timestamp()");
    let expected = cluster.fingerprint();
    cluster.archive_current_wal();
    // The mistake.
    cluster.execute("DROP TABLE large; DELETE FROM pgbench_accounts");
    cluster.archive_current_wal();
    assert_eq!(cluster.archiver_count("failed_count"), 0);

    let wrong = cluster.query("SELECT v::text FROM wale_backup_verify() v WHERE NOT ok");
    assert_eq!(wrong, Vec::<Vec<String>>::new());
    run_wal_e(&archive, ["backup-verify", "LATEST"]).success();
    assert!(run_wal_e(&archive, ["backup-list"]).success().contains(&backup));
    let restored = Restore::latest(PgVersion::oldest()).option("--recovery-target-time", &time);
    let mut restored = restored.fetch(&archive);
    restored.configure("archive_mode = off");
    restored.start();
    restored.wait_for_recovery_pause();
    restored.query_one("SELECT pg_wal_replay_resume()");
    restored.wait_for_end_of_recovery();
    restored.assert_restored(&expected);
    drop(cluster);
    runtime.block_on(async { remove_all(store(&server, &path).await.as_ref()).await });
}
