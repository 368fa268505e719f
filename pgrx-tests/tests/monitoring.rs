//! docs/monitoring/: each query runs for the role that watches and gives the metrics that it
//! declares, alerts and dashboard use those metrics and no others, and Prometheus takes the
//! rules and fires each when it should.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use postgres::SimpleQueryMessage;
use serde_json::{Value, json};
use wal_e_e2e::archive::Archive;
use wal_e_e2e::cluster::Cluster;
use wal_e_e2e::installation::{PgVersion, repository};
use wal_e_e2e::process::run;
use wal_e_e2e::scratch::Scratch;

fn page(name: &str) -> String {
    let path = repository().join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(name: &str) -> Value {
    serde_norway::from_str(&page(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

struct Query {
    name: String,
    sql: String,
    /// Columns that are labels, and those that are metrics.
    labels: BTreeSet<String>,
    metrics: BTreeSet<String>,
}

/// The queries, in the form that postgres_exporter reads.
fn queries() -> Vec<Query> {
    let file = yaml("monitoring/queries.yml");
    let queries = file.as_object().expect("queries by name").iter().map(|(name, query)| {
        let (mut labels, mut metrics) = (BTreeSet::new(), BTreeSet::new());
        for column in query["metrics"].as_array().expect("a list of columns") {
            let column = column.as_object().expect("a column");
            assert_eq!(column.len(), 1, "{name}: {column:?}");
            for (column, what) in column {
                let described = what["description"].as_str().is_some_and(|it| !it.is_empty());
                assert!(described, "{name}.{column}");
                let usage = what["usage"].as_str().expect("a usage");
                let counts = column.ends_with("_total");
                assert_eq!(usage == "COUNTER", counts, "{name}.{column}");
                let new = match usage {
                    "LABEL" => labels.insert(column.clone()),
                    "GAUGE" | "COUNTER" => metrics.insert(column.clone()),
                    _ => panic!("{name}.{column}: {usage}"),
                };
                assert!(new, "{name}.{column} twice");
            }
        }
        let sql = query["query"].as_str().expect("a query").to_owned();
        Query { name: name.clone(), sql, labels, metrics }
    });
    queries.collect()
}

fn metrics() -> BTreeSet<String> {
    let queries = queries();
    let names = queries.iter().flat_map(|query| {
        query.metrics.iter().map(move |column| format!("{}_{column}", query.name))
    });
    names.collect()
}

/// The names of metrics in an expression: all of ours begin alike.
fn used(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("wal_e_")).map(str::to_owned).collect()
}

fn alerts() -> Vec<Value> {
    let file = yaml("monitoring/alerts.yml");
    let groups = file["groups"].as_array().expect("groups");
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

/// Every expression of the dashboard: of its panels, and of its variables.
fn panels() -> Vec<String> {
    let board: Value = serde_json::from_str(&page("monitoring/dashboard.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels").iter();
    let mut ids = BTreeSet::new();
    let mut expressions = Vec::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            expressions.push(target["expr"].as_str().expect("an expression").to_owned());
        }
    }
    expressions
}

/// Runs all queries as a role that has what docs/sql.md gives to who watches.
fn run_queries(cluster: &Cluster) {
    let mut client = cluster.client();
    client.batch_execute("SET ROLE exporter").expect("a superuser may be anybody");
    for Query { name, sql, labels, metrics } in queries() {
        let answer = client.simple_query(&sql).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let rows: Vec<_> = answer
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect();
        assert!(!rows.is_empty(), "{name} has no row");
        for row in rows {
            let columns = row.columns().iter().map(|column| column.name().to_owned());
            let declared: BTreeSet<_> = labels.union(&metrics).cloned().collect();
            assert_eq!(columns.collect::<BTreeSet<_>>(), declared, "{name}");
            for column in &metrics {
                let value = row.get(column.as_str());
                let number = value.is_none_or(|value| value.parse::<f64>().is_ok());
                assert!(number, "{name}.{column}: {value:?}");
            }
            assert!(labels.iter().all(|label| row.get(label.as_str()).is_some()), "{name}");
        }
    }
}

fn queries_run_for_who_watches(version: PgVersion) {
    let archive = Archive::file();
    let cluster = Cluster::build(version).wal_segment_size_mb(1).start_archiving_to(&archive);
    let sql = page("sql.md");
    let (_, privileges) = sql.split_once("\n## Privileges\n").expect("the section is there");
    let (_, block) = privileges.split_once("```sql\n").expect("the first block");
    cluster.execute(block.split("```").next().expect("its end"));
    cluster.execute("CREATE ROLE exporter IN ROLE wal_e_monitor");

    cluster.archive_current_wal();
    run_queries(&cluster);
    cluster.backup_push();
    cluster.execute("CREATE TABLE t AS SELECT 1 AS a");
    cluster.archive_current_wal();
    run_queries(&cluster);

    let mut standby = cluster.make_standby();
    standby.start();
    run_queries(&standby);

    // What is measured is what is.
    let one = |query: &str, column: &str| {
        let queries = queries();
        let found = queries.iter().find(|it| it.name == query).expect("it is one of them");
        cluster.query_one(&format!("SELECT {column} FROM ({}) AS q", found.sql))
    };
    assert_eq!(one("wal_e_archiver", "failing"), "0");
    assert_eq!(one("wal_e_backup", "sound"), "1");
    assert_eq!(
        one("wal_e_backup", "newest_timestamp_seconds > extract(epoch FROM now()) - 300"),
        "t"
    );
    assert_eq!(one("wal_e_window", "stretches"), "1");
    assert_eq!(one("wal_e_window", "reach_seconds BETWEEN 0 AND 300"), "t");
    assert_eq!(one("wal_e_timeline", "sum(broken)"), "0");
    assert_eq!(
        one("wal_e_check", "coalesce(string_agg(check_name, ',') FILTER (WHERE failed = 1), '')"),
        ""
    );
    assert_eq!(
        one("wal_e_job", "string_agg(job, ',' ORDER BY job)"),
        "backup,retention,verification"
    );
}

#[test]
fn queries_run_for_who_watches_on_the_oldest_version() {
    queries_run_for_who_watches(PgVersion::oldest());
}

#[test]
fn queries_run_for_who_watches_on_the_newest_version() {
    queries_run_for_who_watches(PgVersion::newest());
}

#[test]
fn alerts_and_dashboard_use_what_is_measured_and_nothing_else() {
    let known = metrics();
    let mut seen = BTreeSet::new();
    for rule in alerts() {
        seen.append(&mut used(rule["expr"].as_str().expect("an expression")));
    }
    let of_alerts = seen.clone();
    for panel in panels() {
        let mut metrics = used(&panel);
        assert!(!metrics.is_empty(), "{panel}");
        seen.append(&mut metrics);
    }
    assert!(of_alerts.is_subset(&known), "{:?}", of_alerts.difference(&known));
    assert_eq!(seen, known, "used (left) and measured (right)");
}

#[test]
fn the_page_has_each_query_and_each_alert() {
    let page = page("monitoring.md");
    let rows: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(name, _)| name))
        .collect();
    let queries = queries();
    let alerts = alerts();
    let names = queries.iter().map(|query| query.name.as_str());
    let alerts = alerts.iter().map(|rule| rule["alert"].as_str().expect("a name"));
    let expected: BTreeSet<&str> = names.chain(alerts).collect();
    let is_one = |row: &&&str| row.starts_with("WalE") || row.starts_with("wal_e_");
    assert_eq!(rows.iter().filter(is_one).copied().collect::<BTreeSet<_>>(), expected);
}

/// The program of Prometheus that checks rules.
fn promtool() -> Command {
    let path = repository().join("target/promtool/usr/bin/promtool");
    assert!(path.exists(), "{} is missing: run scripts/fetch-promtool", path.display());
    Command::new(path)
}

#[test]
fn prometheus_takes_the_rules_and_the_expressions_of_the_dashboard() {
    let scratch = Scratch::new();
    let rules: Vec<Value> = panels()
        .iter()
        .enumerate()
        .map(|(number, expression)| {
            json!({"record": format!("panel:{number}"), "expr": expression.replace("$instance", ".*")})
        })
        .collect();
    let panels = scratch.path().join("panels.yml");
    let file = json!({"groups": [{"name": "panels", "rules": rules}]});
    fs::write(&panels, file.to_string()).expect("a file can be written");
    let alerts = repository().join("docs/monitoring/alerts.yml");
    run(promtool().args(["check", "rules"]).args([alerts, panels])).success();
}

/// What each metric is when all is well, and what is added every ten minutes. Time begins at 0.
fn all_is_well() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("wal_e_archiver_failing", "0+0"),
        ("wal_e_archiver_queue_files", "1+0"),
        ("wal_e_archiver_last_archived_timestamp_seconds", "0+600"),
        ("wal_e_archiver_lag_bytes", "1000+0"),
        ("wal_e_archiver_lag_seconds", "5+0"),
        ("wal_e_backup_sound", "3+0"),
        ("wal_e_backup_damaged", "0+0"),
        ("wal_e_backup_newest_timestamp_seconds", "0+600"),
        ("wal_e_job_last_success_timestamp_seconds{job=\"backup\"}", "0+600"),
        ("wal_e_job_last_success_timestamp_seconds{job=\"verification\"}", "0+600"),
        ("wal_e_job_last_failed{job=\"backup\"}", "0+0"),
        ("wal_e_job_last_failed{job=\"verification\"}", "0+0"),
        ("wal_e_job_last_failed{job=\"retention\"}", "0+0"),
        ("wal_e_timeline_broken{timeline=\"1\"}", "0+0"),
        ("wal_e_window_reach_seconds", "700000+0"),
        ("wal_e_check_failed{check_name=\"lag\"}", "0+0"),
    ])
}

/// What has to be different for each alert, and for no other.
const TROUBLE: &[(&str, &str, &str)] = &[
    ("WalEArchivingFails", "wal_e_archiver_failing", "1+0"),
    ("WalEArchivingStalls", "wal_e_archiver_last_archived_timestamp_seconds", "1000+0"),
    ("WalELagBytes", "wal_e_archiver_lag_bytes", "2000000000+0"),
    ("WalELagSeconds", "wal_e_archiver_lag_seconds", "1000+0"),
    ("WalEQueueGrows", "wal_e_archiver_queue_files", "30+1"),
    ("WalENoBackup", "wal_e_backup_sound", "0+0"),
    ("WalEBackupTooOld", "wal_e_backup_newest_timestamp_seconds", "1000+0"),
    ("WalEBackupDamaged", "wal_e_backup_damaged", "1+0"),
    (
        "WalEVerificationTooOld",
        "wal_e_job_last_success_timestamp_seconds{job=\"verification\"}",
        "-2000000+0",
    ),
    ("WalEVerificationFailed", "wal_e_job_last_failed{job=\"verification\"}", "1+0"),
    ("WalEJobFailed", "wal_e_job_last_failed{job=\"retention\"}", "1+0"),
    ("WalEJobMissed", "wal_e_job_last_success_timestamp_seconds{job=\"backup\"}", "0+0"),
    ("WalEHoleInWal", "wal_e_timeline_broken{timeline=\"1\"}", "1+0"),
    ("WalEWindowTooShort", "wal_e_window_reach_seconds", "100+0"),
    ("WalECheckFails", "wal_e_check_failed{check_name=\"lag\"}", "1+0"),
];

/// Two days of one server, and what fires at their end.
fn story(series: &BTreeMap<&str, &str>, fires: Option<&str>) -> Value {
    let series: Vec<Value> = series
        .iter()
        .map(|(name, values)| json!({"series": name, "values": format!("{values}x288")}))
        .collect();
    let samples: Vec<Value> = fires
        .iter()
        .map(|alert| json!({"labels": format!("{{alertname=\"{alert}\"}}"), "value": 1}))
        .collect();
    json!({
        "interval": "10m",
        "input_series": series,
        "promql_expr_test": [{
            "expr": "count by (alertname) (ALERTS{alertstate=\"firing\"})",
            "eval_time": "2d",
            "exp_samples": samples,
        }],
    })
}

#[test]
fn each_alert_fires_when_it_should_and_none_when_all_is_well() {
    let tried: BTreeSet<&str> = TROUBLE.iter().map(|(alert, ..)| *alert).collect();
    let alerts = alerts();
    let known = alerts.iter().map(|rule| rule["alert"].as_str().expect("a name"));
    assert_eq!(tried, known.collect(), "tried (left) and known (right)");

    let mut stories = vec![story(&all_is_well(), None)];
    for (alert, metric, values) in TROUBLE {
        let mut series = all_is_well();
        assert!(series.insert(metric, values).is_some(), "{metric}");
        stories.push(story(&series, Some(alert)));
    }
    let scratch = Scratch::new();
    let test: PathBuf = scratch.path().join("test.yml");
    let file = json!({
        "rule_files": [repository().join("docs/monitoring/alerts.yml")],
        "evaluation_interval": "10m",
        "tests": stories,
    });
    fs::write(&test, file.to_string()).expect("a file can be written");
    run(promtool().args(["test", "rules"]).arg(&test)).success();
}
