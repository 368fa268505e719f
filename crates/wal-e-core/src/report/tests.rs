//! Pages of reports that were made up.

use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::coverage::Status;
use crate::error::{Error, ErrorKind};
use crate::postgres::{Lsn, SegmentNumber, SegmentSize, TimelineId, WalSegment};
use crate::retention::{Action, Calendar, ItemKind, Tally};

mod gathering;

const BEGIN: OffsetDateTime = datetime!(2026-11-01 02:00 UTC);

const SEGMENT: u64 = 16 << 20;

fn day(day: u32) -> OffsetDateTime {
    BEGIN + Duration::days(day.into())
}

fn segment(timeline: u32, number: u64) -> String {
    WalSegment { timeline: TimelineId(timeline), number: SegmentNumber(number) }
        .file_name(SegmentSize::DEFAULT)
}

fn empty() -> Report {
    Report {
        prefix: "s3://bucket/cluster".to_owned(),
        now: day(28),
        face: Face::Program,
        backups: Vec::new(),
        timelines: Vec::new(),
        stretches: Vec::new(),
        holes: None,
        windows: Vec::new(),
        retention: None,
        jobs: Vec::new(),
        checks: None,
        warnings: Vec::new(),
    }
}

/// Taken on a day, at a segment.
fn backup(on: u32, number: u64) -> BackupInfo {
    BackupInfo {
        name: format!("base_{}", segment(1, number)),
        stored_at: day(on) + Duration::minutes(31),
        delta_from: None,
        start_time: Some(day(on)),
        finish_time: Some(day(on) + Duration::minutes(30)),
        timeline: TimelineId(1),
        start_lsn: Some(Lsn(number * SEGMENT + 40)),
        stop_lsn: Some(Lsn((number + 1) * SEGMENT)),
        pg_version: Some(150_018),
        system_identifier: None,
        uncompressed_bytes: Some(1500 << 20),
        compressed_bytes: Some(500 << 20),
        cluster_bytes: None,
        permanent: false,
        hostname: Some("db1".to_owned()),
        data_directory: Some("/data".to_owned()),
        encryption: None,
        encryption_key: None,
        unreadable: None,
        metadata_unreadable: None,
    }
}

fn window(timeline: u32, from: u32, to: u32) -> Window {
    Window {
        timeline: TimelineId(timeline),
        from_time: day(from) + Duration::minutes(30),
        to_time: Some(day(to) - Duration::microseconds(1)),
        from_lsn: Lsn(SEGMENT),
        to_lsn: None,
        backup_name: format!("base_{}", segment(1, 2)),
        ends: "the archive has no more of timeline 1".to_owned(),
    }
}

fn stretch(timeline: u32, from: u64, to: u64, status: Status) -> Stretch {
    let (from, to) = (Lsn(from * SEGMENT), Lsn(to * SEGMENT));
    Stretch { timeline: TimelineId(timeline), from, to, status }
}

fn timeline(number: u32, segments: u64, missing: u64) -> TimelineRow {
    TimelineRow {
        timeline: TimelineId(number),
        parent_timeline: (number > 1).then(|| TimelineId(number - 1)),
        switch_lsn: (number > 1).then(|| Lsn(u64::from(number) * 100 * SEGMENT)),
        first_segment: Some(segment(number, 2)),
        last_segment: Some(segment(number, 300)),
        segments,
        missing,
        status: if missing > 0 { Status::Missing } else { Status::Found },
        lacks_history: false,
    }
}

fn hole(number: u64, segments: u64, status: Status) -> WalRange {
    WalRange {
        timeline: TimelineId(1),
        first_segment: segment(1, number),
        last_segment: segment(1, number + segments - 1),
        segments,
        status,
        advice: Some("Take a base backup.".to_owned()),
    }
}

fn run(on: u32, ok: Option<bool>) -> Entry {
    Entry {
        job: "backup".to_owned(),
        slot: Some(day(on)),
        attempt: 1,
        host: "db1".to_owned(),
        started: Some(day(on) + Duration::seconds(1)),
        finished: ok.map(|_| day(on) + Duration::minutes(30)),
        ok,
        detail: Some("took base backup".to_owned()),
        bytes: Some(500 << 20),
    }
}

fn item(name: &str, action: Action) -> Item {
    Item {
        name: name.to_owned(),
        kind: ItemKind::Backup,
        tally: Tally { objects: 3, bytes: 5 << 20 },
        action,
        reason: "no rule keeps it".to_owned(),
    }
}

/// A failover in segment 200, and a hole after it.
fn with_everything() -> Report {
    let mut delta = backup(20, 150);
    delta.delta_from = Some(backup(1, 2).name);
    let permanent = BackupInfo { permanent: true, ..backup(10, 80) };
    let mut damaged = backup(25, 240);
    damaged.unreadable = Some(Error::new(ErrorKind::Corrupt, "object \"x\" is damaged"));
    Report {
        backups: vec![backup(1, 2), permanent, delta, damaged],
        timelines: vec![timeline(1, 198, 0), timeline(2, 98, 2)],
        stretches: vec![
            stretch(1, 2, 200, Status::Found),
            stretch(2, 200, 250, Status::Found),
            stretch(2, 250, 252, Status::Missing),
            stretch(2, 252, 300, Status::Found),
        ],
        holes: Some(vec![hole(250, 2, Status::Missing)]),
        windows: vec![window(1, 1, 22), window(2, 24, 28)],
        retention: Some(Retention {
            policy: Policy {
                full_backups: 2,
                window: Some(Duration::days(14)),
                calendar: Calendar { daily: 7, ..Calendar::default() },
            },
            items: vec![item("kept", Action::Keep), item("gone", Action::Delete)],
        }),
        jobs: vec![run(3, None), run(2, Some(false)), run(1, Some(true))],
        checks: Some(vec![
            Check::passed("preload", "wal_e was loaded"),
            Check::failed("lag", "3 files wait", "Wait."),
        ]),
        warnings: vec!["something is strange".to_owned()],
        ..empty()
    }
}

fn occurrences(page: &str, of: &str) -> usize {
    page.matches(of).count()
}

#[test]
fn an_empty_archive_has_a_page_that_says_so() {
    let page = empty().page();
    for said in [
        "No restore is possible.",
        "The archive has no base backup.",
        "The archive has no WAL.",
        "Nothing was done by schedule.",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    assert!(!page.contains("id=\"retention\"") && !page.contains("id=\"checks\""), "{page}");
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let page = with_everything().page();
    for loads in ["<script", "src=", "href", "url(", "@import", "http:", "https:", "<link", " on"] {
        let found = page.find(loads).map(|at| &page[at..(at + 60).min(page.len())]);
        let is_text = loads == " on" && found.is_none_or(|found| !found.contains("=\""));
        assert!(found.is_none() || is_text, "{loads}: {found:?}");
    }
    assert!(page.contains("default-src 'none'"), "{page}");
}

#[test]
fn whatever_the_archive_says_is_escaped() {
    const HOSTILE: &str = "</title></style><script>alert(1)</script>\"'><img src=x onerror=y>&\0";
    let hostile = || HOSTILE.to_owned();
    let mut report = with_everything();
    report.prefix = hostile();
    for backup in &mut report.backups {
        (backup.name, backup.hostname) = (hostile(), Some(hostile()));
        backup.unreadable = Some(Error::new(ErrorKind::Corrupt, HOSTILE));
    }
    for window in &mut report.windows {
        (window.backup_name, window.ends) = (hostile(), hostile());
    }
    for row in &mut report.timelines {
        (row.first_segment, row.last_segment) = (Some(hostile()), Some(hostile()));
    }
    for hole in report.holes.iter_mut().flatten() {
        (hole.first_segment, hole.last_segment) = (hostile(), hostile());
        hole.advice = Some(hostile());
    }
    for item in report.retention.iter_mut().flat_map(|it| &mut it.items) {
        (item.name, item.reason) = (hostile(), hostile());
    }
    for entry in &mut report.jobs {
        (entry.host, entry.detail) = (hostile(), Some(hostile()));
    }
    for check in report.checks.iter_mut().flatten() {
        (check.detail, check.hint) = (hostile(), Some(hostile()));
    }
    report.warnings = vec![hostile()];
    let (page, plain) = (report.page(), with_everything().page());
    for tag in ["<script", "<img", "</title>", "</style>"] {
        assert_eq!(occurrences(&page, tag), occurrences(&plain, tag), "{tag}");
    }
    let escaped = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;'&gt;";
    assert!(occurrences(&page, escaped) > 30, "{}", occurrences(&page, escaped));
    assert!(!page.contains('\0') && page.contains("&amp;&#xFFFD;"), "PostgreSQL's text has no NUL");
}

#[test]
fn the_page_is_the_same_in_every_encoding() {
    let page = Report { warnings: vec!["Käse \u{1F9C0}".to_owned()], ..with_everything() }.page();
    assert!(page.is_ascii() && page.contains("K&#xE4;se &#x1F9C0;"), "{page}");
}

#[test]
fn one_backup_is_shown_with_what_is_known_of_it() {
    let report = Report { backups: vec![backup(1, 2)], ..empty() };
    let page = report.page();
    let row = "data-backup-name=\"base_000000010000000000000002\" data-backup-type=\"full\" data-start-time=\"2026-11-02T02:00:00Z\" data-finish-time=\"2026-11-02T02:30:00Z\" data-uncompressed-bytes=\"1572864000\" data-compressed-bytes=\"524288000\" data-permanent=\"false\"";
    assert_eq!(occurrences(&page, row), 1, "{page}");
    assert!(page.contains("2026-11-02 02:30:00, full: 500 MB, 30 min"), "{page}");
    let mut unknown = backup(1, 2);
    (unknown.finish_time, unknown.compressed_bytes, unknown.uncompressed_bytes) =
        (None, None, None);
    let page = Report { backups: vec![unknown], ..empty() }.page();
    assert!(page.contains("size not known, duration not known"), "{page}");
}

#[test]
fn kinds_of_backups_differ_in_form() {
    let page = with_everything().page();
    for (mark, number) in [
        ("<rect class=\"full\" x=\"-", 2),
        ("<rect class=\"delta\" x=\"-", 1),
        ("<rect class=\"damaged\" x=\"-", 1),
        ("<circle class=\"permanent\" cx=\"0\"", 1),
    ] {
        assert_eq!(occurrences(&page, mark), number, "{mark}");
    }
}

#[test]
fn a_hole_is_drawn_and_listed_with_what_to_do() {
    let page = with_everything().page();
    // Segments 2 to 300 on 400 cells: 250 and 251 touch cells 332 to 335.
    assert!(page.contains("<path class=\"missing\" d=\"M332 0h4v14h-4z\">"), "{page}");
    assert!(page.contains("Take a base backup."), "{page}");
    assert!(page.contains("WAL is missing: 2 segments are not in the archive."), "{page}");
    let whole = Report { holes: Some(Vec::new()), ..with_everything() }.page();
    assert!(whole.contains("All WAL is there"), "{whole}");
    assert!(!whole.contains("WAL is missing"), "{whole}");
}

#[test]
fn a_job_whose_last_run_failed_is_said_first() {
    let mut report = with_everything();
    assert!(report.page().contains("The last backup by schedule failed."));
    report.jobs.insert(0, run(4, Some(true)));
    assert!(!report.page().contains("by schedule failed"));
}

#[test]
fn a_timeline_is_joined_to_the_one_that_it_left() {
    let page = with_everything().page();
    let line = "<line class=\"branch\" x1=\"66.44%\" x2=\"66.44%\" y1=\"34\" y2=\"80\">";
    assert_eq!(occurrences(&page, line), 1, "{page}");
    assert_eq!(occurrences(&page, "<line class=\"branch\""), 1);
}

#[test]
fn what_goes_comes_first_and_is_summed_up() {
    let page = with_everything().page();
    let place = |name: &str| page.find(&format!("data-object-name=\"{name}\"")).unwrap();
    assert!(place("gone") < place("kept"));
    assert!(page.contains("2 full backups; every moment of 14 days; 7 daily"), "{page}");
    assert!(page.contains("data-deleted-objects=\"3\" data-deleted-bytes=\"5242880\""), "{page}");
}

#[test]
fn settings_and_commands_are_named_in_the_words_of_the_face() {
    let mut report = with_everything();
    let advice = format!("Use {}.", crate::config::Word::TakeBackup);
    report.holes = Some(vec![WalRange { advice: Some(advice), ..hole(250, 2, Status::Missing) }]);
    assert!(report.page().contains("Use wal-e backup-push."));
    report.face = Face::Server;
    assert!(report.page().contains("Use wale_backup_push()."));
}

#[test]
fn a_large_archive_has_a_small_page() {
    let holes: Vec<u64> = (0..200_000).map(|index| index * 5).collect();
    let report = Report {
        backups: (0..1000).map(|index| backup(index, u64::from(index) * 1000)).collect(),
        timelines: (1..=200).map(|number| timeline(number, 800_000, 200_000)).collect(),
        stretches: holes
            .iter()
            .flat_map(|at| {
                let timeline = 181 + (at % 20) as u32;
                [
                    stretch(timeline, *at, at + 4, Status::Found),
                    stretch(timeline, at + 4, at + 5, Status::Missing),
                ]
            })
            .collect(),
        holes: Some(holes.iter().map(|at| hole(*at, 1, Status::Missing)).collect()),
        windows: (0..1000).map(|from| window(1 + from % 150, from, from + 1)).collect(),
        jobs: (0..1200).rev().map(|on| run(on, Some(on % 7 > 0))).collect(),
        retention: Some(Retention {
            policy: Policy { full_backups: 2, ..Policy::default() },
            items: (0..5000).map(|index| item(&index.to_string(), Action::Keep)).collect(),
        }),
        ..with_everything()
    };
    let page = report.page();
    assert!(page.len() < 500_000, "{} bytes", page.len());
    for left_out in [900, 100, 199_900, 4900, 1100] {
        let line = format!("data-left-out=\"{left_out}\"");
        assert!(page.contains(&line), "{line}");
    }
    // The newest are shown.
    assert!(page.contains(&format!("data-backup-name=\"{}\"", report.backups[999].name)));
}

#[test]
fn an_axis_has_a_few_round_moments() {
    let labels = |from: OffsetDateTime, to: OffsetDateTime| -> Vec<String> {
        let axis = axis::Axis::of_times([from, to].into_iter()).unwrap();
        axis.ticks().into_iter().map(|tick| tick.label).collect()
    };
    assert_eq!(labels(day(0), day(3)), ["2026-11-02", "2026-11-03", "2026-11-04"]);
    assert_eq!(
        labels(day(0), day(0) + Duration::minutes(12)),
        ["11-01 02:00", "11-01 02:05", "11-01 02:10"]
    );
    assert_eq!(labels(day(0), day(0)), ["11-01 02:00"]);
    for days in [1, 9, 40, 100, 400, 3000, 30_000] {
        let labels = labels(day(0), day(days));
        assert!((2..=6).contains(&labels.len()), "{days} days: {labels:?}");
    }
    let axis = axis::Axis::new(10.0, 10.0);
    assert_eq!((axis.place(10.0), axis.ticks().len()), (50.0, 0));
}

#[test]
fn a_cell_shows_the_worst_of_what_falls_into_it() {
    let mut cells = marks::Cells::new();
    cells.add(0.0, 100.0, 1);
    cells.add(50.0, 50.01, 3);
    cells.add(50.0, 50.02, 2);
    assert_eq!(cells.path(1, 0, 5).unwrap(), "M0 0h200v5h-200zM201 0h199v5h-199z");
    assert_eq!(cells.path(3, 0, 5).unwrap(), "M200 0h1v5h-1z");
    assert_eq!(cells.path(2, 0, 5), None);
}

#[test]
fn numbers_are_written_for_people() {
    use super::figures::{count, counted, duration};
    assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([counted(1, "row"), counted(2, "row")], ["1 row", "2 rows"]);
    let times = [59, 60, 3661, 86_400, 90 * 86_400].map(Duration::seconds);
    assert_eq!(times.map(duration), ["59 s", "1 min", "1 h 1 min", "1 day", "90 days"]);
    assert_eq!(duration(Duration::seconds(-5)), "0 s");
}
