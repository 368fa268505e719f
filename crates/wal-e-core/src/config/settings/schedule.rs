//! What a server does by itself, and what it keeps.

use super::{Description, Number, TEXT_OF_SERVER, Unit, Value};

pub(super) const BACKUP_SCHEDULE: Description = Description {
    name: "backup_schedule",
    purpose: "When the server takes a base backup by itself",
    note: "Minute, hour, day of the month, month and day of the week, as in cron, and perhaps a time \
           zone such as \"Europe/Berlin\"; UTC without one.",
    remarks: "`0 2 * * *` is every night at two. See [schedules](schedules.md).",
    value: Value::Text { empty: "that it takes none" },
    ..TEXT_OF_SERVER
};

pub(super) const VERIFY_SCHEDULE: Description = Description {
    name: "verify_schedule",
    purpose: "When the server reads the newest base backup back by itself",
    note: "It is written as \"wal_e.backup_schedule\" is.",
    remarks: "A verification reads the whole backup from the store.",
    value: Value::Text { empty: "that it reads none" },
    ..TEXT_OF_SERVER
};

/// The default is the server that there always is.
pub(super) const BACKUP_ROLE: Description = Description {
    name: "backup_role",
    purpose: "Which server of several with one prefix works by schedule",
    note: "Base backups are taken by the primary in any case.",
    remarks: "A standby can only verify, and needs `hot_standby` for that. With `any`, the server \
              that is quicker does it.",
    value: Value::Choice { words: &["primary", "standby", "any"], default: "primary" },
    ..TEXT_OF_SERVER
};

/// In WAL, not in time: a time is only known of a standby that answers.
pub(super) const BACKUP_MAX_REPLICATION_LAG: Description = Description {
    name: "backup_max_replication_lag",
    purpose: "How much WAL a standby may lack when a base backup begins by schedule",
    note: "While a connected standby has not received more than that, the base backup waits. Zero \
           means that it does not wait.",
    remarks: "See [What a base backup waits for](schedules.md#what-a-base-backup-waits-for).",
    value: Value::Number(Number {
        unit: Unit::Megabytes,
        low: 0,
        high: i32::MAX as i64,
        default: Some(0),
    }),
    ..TEXT_OF_SERVER
};

pub(super) const BACKUP_WAIT_FOR_CHECKPOINT: Description = Description {
    name: "backup_wait_for_checkpoint",
    purpose: "Whether a base backup by schedule waits for the end of a checkpoint that runs",
    remarks: "See [What a base backup waits for](schedules.md#what-a-base-backup-waits-for).",
    value: Value::Switch { default: false },
    ..TEXT_OF_SERVER
};

pub(super) const EVENTS_DATABASE: Description = Description {
    name: "events_database",
    purpose: "The database in which the server announces what happens to the archive",
    note: "Sessions hear of it that have executed LISTEN wal_e there.",
    remarks: "See [events](monitoring.md#events).",
    value: Value::Text { empty: "that it announces nothing" },
    ..TEXT_OF_SERVER
};

pub(super) const RETAIN_FULL_BACKUPS: Description = Description {
    name: "retain_full_backups",
    purpose: "How many full backups are kept, with every moment from the oldest of them on",
    note: "Zero means no such rule. What no rule keeps is deleted after each base backup that was \
           taken by schedule; without any rule nothing is.",
    value: Value::Number(Number {
        unit: Unit::One,
        low: 0,
        high: i32::MAX as i64,
        default: Some(0),
    }),
    ..TEXT_OF_SERVER
};

pub(super) const RETAIN_WINDOW: Description = Description {
    name: "retain_window",
    purpose: "How far back every moment can be restored",
    note: "A number and hours, days or weeks, such as \"14 days\".",
    remarks: "As `--window` of `wal-e delete retain`.",
    value: Value::Text { empty: "no such rule" },
    ..TEXT_OF_SERVER
};

pub(super) const RETAIN_CALENDAR: Description = Description {
    name: "retain_calendar",
    purpose: "For how many days, weeks, months and years a backup each is kept",
    note: "For example \"7 daily, 4 weekly, 12 monthly, 5 yearly\".",
    remarks: "As `--calendar` of `wal-e delete retain`.",
    value: Value::Text { empty: "no such rule" },
    ..TEXT_OF_SERVER
};
