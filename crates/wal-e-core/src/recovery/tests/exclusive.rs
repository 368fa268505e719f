//! Targets that end with the base backup, or just before what they name.

use super::*;
use crate::recovery::refusal::Cause;

#[tokio::test]
async fn the_end_of_the_backup_needs_no_later_wal() {
    let sample = sample().await;
    sample.fixture.remove(1, 5).await;
    let plan = sample.fixture.auto(Some(RecoveryTarget::Immediate)).await;
    let (name, stop) = &sample.second;
    assert_eq!((&plan.backup.name, plan.reached_lsn), (name, Some(*stop)));
    assert_eq!((plan.last_segment, plan.reached_time), (name_of(1, 4), None));
}

#[tokio::test]
async fn the_end_of_a_backup_of_a_timeline_that_was_left_can_be_reached() {
    let (sample, _, (name, stop)) = branched().await;
    let immediate = || Some(RecoveryTarget::Immediate);
    let newest = sample.fixture.auto(immediate()).await;
    assert_eq!((newest.backup.name, newest.reached_lsn), (name, Some(stop)));
    let (left, stop) = &sample.second;
    let plan = sample.fixture.reached(sample.fixture.plan(left, immediate(), None).await);
    assert_eq!((plan.timeline, plan.reached_lsn), (TimelineId(1), Some(*stop)));
}

#[tokio::test]
async fn an_exclusive_transaction_or_lsn_is_stopped_before() {
    let sample = sample().await;
    let fixture = &sample.fixture;
    let plan = fixture.auto(Some(RecoveryTarget::BeforeXid(704))).await;
    assert_eq!((plan.reached_lsn, plan.reached_time), (Some(sample.commits[3]), None));
    let refused = fixture.plan(&sample.second.0, Some(RecoveryTarget::BeforeXid(702)), None).await;
    assert_eq!(fixture.refused(refused).cause, Cause::TooEarly);

    let plan = fixture.auto(Some(RecoveryTarget::BeforeLsn(sample.commits[3]))).await;
    assert_eq!((&plan.backup.name, plan.reached_lsn), (&sample.second.0, Some(sample.commits[3])));
    // Replay up to the end of the backup is enough.
    let plan = fixture.auto(Some(RecoveryTarget::BeforeLsn(sample.second.1))).await;
    assert_eq!(plan.backup.name, sample.second.0);
    // Nothing is known to come after the end.
    let end = sample.log.position();
    assert_eq!(fixture.no_auto(Some(RecoveryTarget::BeforeLsn(end))).await.cause, Cause::Target);
}

#[tokio::test]
async fn an_exclusive_time_leaves_out_the_transactions_of_that_moment() {
    let sample = sample().await;
    let before = |at: i64| Some(RecoveryTarget::BeforeTime(minute(at).into()));
    let plan = sample.fixture.auto(before(40)).await;
    assert_eq!(plan.reached_lsn, Some(sample.commits[3]));
    // The last transaction ended at 50: there is none after it, but it is one to stop before.
    assert_eq!(sample.fixture.auto(before(50)).await.reached_lsn, Some(sample.commits[4]));
    assert_eq!(sample.fixture.no_auto(time(50)).await.cause, Cause::Target);
    // A backup that was complete at the very moment is not before it.
    assert_eq!(sample.fixture.auto(before(30)).await.backup.name, sample.first.0);
}
