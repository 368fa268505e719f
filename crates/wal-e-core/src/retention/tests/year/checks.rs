//! What is compared with the model after a deletion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use time::OffsetDateTime;

use super::model::{Allowed, Model, segment_name};
use super::servers::{Moment, segment_of};
use super::world::World;
use crate::layout::{self, ObjectKey, WalContent};
use crate::notice;
use crate::postgres::wal_sample::SEGMENT_SIZE;
use crate::recovery::{self, Outcome, PlanRequest, ReadWal, RecoveryTarget};
use crate::retention::{Action, ItemKind, Plan};
use crate::store::{ListRequest, ObjectStore, list_all};

/// The archive before a deletion.
pub struct Before {
    pub keys: BTreeMap<String, OffsetDateTime>,
    /// When the newest of its objects was stored.
    pub newest: OffsetDateTime,
    /// What could be restored.
    pub moments: BTreeSet<Moment>,
}

/// The moments to which a restore is possible, as the planner of restores sees it.
async fn restorable(world: &World) -> BTreeSet<Moment> {
    let (notices, _queue) = notice::channel();
    let store: Arc<dyn ObjectStore> = Arc::new(world.store.inner().clone());
    let windows = crate::coverage::windows(&store, &notices).await.unwrap();
    let mut moments = BTreeSet::new();
    for window in windows {
        let Some(to) = window.to_lsn else { continue };
        let backup = world.taken.iter().find(|backup| backup.name == window.backup_name).unwrap();
        let line = world.lines.numbered(window.timeline);
        let reached = world.moments.iter().filter(|moment| {
            moment.cluster == backup.cluster
                && (window.from_lsn..=to).contains(&moment.lsn)
                && line.timeline_at(moment.lsn) == moment.timeline
        });
        moments.extend(reached);
    }
    moments
}

impl Before {
    pub async fn of(world: &World) -> Before {
        let all = list_all(world.store.inner(), &ListRequest::default()).await.unwrap();
        let of_cluster = |key: &str| key.starts_with("wal_005/") || key.starts_with("basebackups");
        let looked_at = all.iter().filter(|object| of_cluster(object.key.as_str()));
        Before {
            newest: looked_at.map(|object| object.last_modified).max().unwrap(),
            keys: all
                .into_iter()
                .map(|object| (object.key.as_str().to_owned(), object.last_modified))
                .collect(),
            moments: restorable(world).await,
        }
    }

    /// Whatever the policy, and what the policy keeps.
    pub async fn check_what_must_stay(&self, world: &World, model: &Model<'_>, at: &str) {
        let after = world.keys().await;
        let gone: Vec<&String> = self.keys.keys().filter(|key| !after.contains(*key)).collect();
        let is_known = |key: &str| key.ends_with(".lz4") || key.starts_with("basebackups_005/base");
        for key in &gone {
            let verification = key.starts_with("wal_e/verifications/");
            assert!(is_known(key) || verification, "{at}: {key} is gone");
        }
        for name in model.kept() {
            let directory = layout::backup_directory(&name);
            let sentinel = layout::sentinel(&name);
            let own =
                |key: &&&String| key.starts_with(&directory) || key.as_str() == sentinel.as_str();
            assert_eq!(gone.iter().find(own), None, "{at}: of {name}");
        }
        for backup in model.backups().iter().filter(|it| model.is_under_way(it, world.now)) {
            let needs = |moment: &&Moment| {
                moment.cluster == backup.cluster
                    && moment.lsn >= backup.start
                    && moment.timeline == backup.timeline
            };
            for moment in world.moments.iter().filter(needs) {
                let name = segment_name(moment.timeline, segment_of(moment.lsn));
                let lost = gone.iter().find(|key| key.contains(&name) && key.starts_with("wal"));
                assert_eq!(lost, None, "{at}: {} is under way", backup.name);
            }
        }
        let moments = restorable(world).await;
        let kept = self.moments.iter().filter(|moment| model.keeps(moment));
        let lost: Vec<&Moment> = kept.filter(|moment| !moments.contains(moment)).collect();
        assert!(lost.is_empty(), "{at}: cannot be restored any more: {lost:#?}");
        self.check_backups(world, model, at).await;
    }

    /// The backups that stay can be restored as they are.
    async fn check_backups(&self, world: &World, model: &Model<'_>, at: &str) {
        let kept = model.kept();
        let usable = model.usable();
        let kept = usable.iter().filter(|backup| kept.contains(&backup.name));
        // All of them now and then, and otherwise the oldest two.
        let count = if world.xid.is_multiple_of(20) { usize::MAX } else { 2 };
        for backup in kept.take(count) {
            let request = PlanRequest {
                backup: backup.name.as_str().into(),
                target: Some(RecoveryTarget::Immediate),
                timeline: None,
                standby: false,
                read_end: false,
                read_wal: ReadWal::All,
            };
            let (notices, _queue) = notice::channel();
            let store: Arc<dyn ObjectStore> = Arc::new(world.store.inner().clone());
            let outcome = recovery::plan(store, &request, notices).await.unwrap();
            assert!(matches!(outcome, Outcome::Reachable(_)), "{at}: {outcome:#?}");
        }
    }

    /// Everything of which the plan said so is gone, and nothing else.
    pub async fn check_what_was_planned(&self, world: &World, plan: &Plan, at: &str) {
        let after = world.keys().await;
        let mut deleted = 0;
        for key in self.keys.keys().filter(|key| !key.starts_with("wal_e/")) {
            let is_gone = !after.contains(key);
            deleted += u64::from(is_gone);
            let action = action(plan, &ObjectKey::from_listing(key).unwrap());
            let expected = if is_gone { Action::Delete } else { Action::Keep };
            assert_eq!(action, expected, "{at}: {key}");
        }
        assert_eq!(plan.deletes().objects, deleted, "{at}");
    }

    /// What may go is gone.
    pub async fn check_what_is_left(
        &self,
        world: &World,
        model: &Model<'_>,
        allowed: &Allowed,
        at: &str,
    ) {
        let after = world.keys().await;
        let is_allowed =
            |name: &String| allowed.onwards.contains(name) || allowed.themselves.contains(name);
        let mut any = false;
        for key in &after {
            let key = ObjectKey::from_listing(key).unwrap();
            let sentinel = layout::backup_of_sentinel(&key).map(str::to_owned);
            any |= sentinel.is_some();
            if let Some(name) = sentinel.or_else(|| layout::backup_of(&key)) {
                assert!(is_allowed(&name), "{at}: {name} is left; allowed: {allowed:#?}");
            }
        }
        for key in after.iter().filter(|_| any) {
            let key = ObjectKey::from_listing(key).unwrap();
            if let Some(WalContent::Segments { timeline, first, .. }) =
                layout::wal_content(&key, SEGMENT_SIZE)
            {
                let may_stay = model.may_keep_wal(allowed, timeline, first.0);
                assert!(may_stay, "{at}: {key} is left; allowed: {allowed:#?}");
            }
        }
    }
}

/// What a plan says of an object.
fn action(plan: &Plan, key: &ObjectKey) -> Action {
    let sentinel = layout::backup_of_sentinel(key).map(str::to_owned);
    let of_backup = sentinel.or_else(|| layout::backup_of(key));
    let segment = match layout::wal_content(key, SEGMENT_SIZE) {
        Some(WalContent::Segments { timeline, first, .. }) => Some(segment_name(timeline, first.0)),
        _ => None,
    };
    let of_item = plan.items.iter().find(|item| match item.kind {
        ItemKind::Backup | ItemKind::IncompleteBackup => of_backup.as_ref() == Some(&item.name),
        ItemKind::Wal => segment.as_ref().is_some_and(|segment| {
            let (first, last) = item.name.split_once(" to ").unwrap_or((&item.name, &item.name));
            (first..=last).contains(&segment.as_str())
        }),
        ItemKind::History | ItemKind::Other => false,
    });
    of_item.map_or(Action::Keep, |item| item.action)
}
