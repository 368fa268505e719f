//! Random questions: where a recovery should end, along which timeline, from which backup.

use std::fmt;

use fastrand::Rng;
use time::OffsetDateTime;
use time::macros::format_description;
use wal_e_core::postgres::Lsn;

use super::history::one_of;
use super::model::Write;
use super::truth::Truth;
use super::world::World;

/// Where recovery should end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// At the end of the archive.
    End,
    /// As soon as the cluster is consistent.
    Immediate,
    /// After what was committed up to this time, in microseconds since 1970.
    Time(i64),
    /// After the first record from here on.
    Lsn(Lsn),
    /// At a restore point.
    Name(String),
    /// After a transaction.
    Xid(u32),
}

/// A timeline as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeline {
    /// Nothing is said.
    Unsaid,
    /// `latest`.
    Latest,
    /// `current`.
    Current,
    /// A number.
    Number(u32),
}

/// A question to `restore-plan`.
#[derive(Debug, Clone)]
pub struct Request {
    /// `AUTO`, `LATEST`, or a name.
    pub backup: String,
    /// Where recovery should end.
    pub target: Target,
    /// Along which timeline.
    pub timeline: Timeline,
    /// Whether what is at the target is still wanted.
    pub inclusive: bool,
}

/// What of all this the program knows.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// `--recovery-target immediate`.
    pub immediate: bool,
    /// `--recovery-target-inclusive=false`.
    pub exclusive: bool,
}

impl Request {
    /// A question about a moment that the history has, or nearly.
    pub fn random(world: &World, truth: &Truth, known: Known, random: &mut Rng) -> Request {
        let target = target(world, known, random);
        let timelines: Vec<u32> = truth.timelines().into_iter().collect();
        let timeline = match random.u32(0..100) {
            0..55 => Timeline::Unsaid,
            55..70 => Timeline::Latest,
            70..75 => Timeline::Current,
            _ => Timeline::Number(one_of(random, &timelines).unwrap_or(1)),
        };
        let names: Vec<String> = world.archive.backups();
        let backup = match (random.u32(0..100), one_of(random, &names)) {
            (60..75, _) => "LATEST".to_owned(),
            (75..100, Some(name)) => name,
            _ => "AUTO".to_owned(),
        };
        let exclusive = known.exclusive
            && matches!(target, Target::Time(_) | Target::Lsn(_) | Target::Xid(_))
            && random.u32(0..4) == 0;
        Request { backup, target, timeline, inclusive: !exclusive }
    }

    /// The options of the program.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = Vec::new();
        match &self.target {
            Target::End => {}
            Target::Immediate => options.push(("--recovery-target", "immediate".to_owned())),
            Target::Time(time) => options.push(("--recovery-target-time", time_text(*time))),
            Target::Lsn(lsn) => options.push(("--recovery-target-lsn", lsn.to_string())),
            Target::Name(name) => options.push(("--recovery-target-name", name.clone())),
            Target::Xid(xid) => options.push(("--recovery-target-xid", xid.to_string())),
        }
        let timeline = match self.timeline {
            Timeline::Unsaid => None,
            Timeline::Latest => Some("latest".to_owned()),
            Timeline::Current => Some("current".to_owned()),
            Timeline::Number(number) => Some(number.to_string()),
        };
        options.extend(timeline.map(|timeline| ("--recovery-target-timeline", timeline)));
        if !self.inclusive {
            options.push(("--recovery-target-inclusive", "false".to_owned()));
        }
        options
    }

    /// The settings of a server for the same recovery.
    pub fn settings(&self) -> Vec<String> {
        let setting = |(option, value): (&str, String)| {
            let name = option.trim_start_matches('-').replace('-', "_");
            format!("{name} = '{value}'")
        };
        let mut settings: Vec<String> = self.options().into_iter().map(setting).collect();
        settings.push("recovery_target_action = 'promote'".to_owned());
        settings
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.backup)?;
        self.options().iter().try_for_each(|(option, value)| write!(f, " {option} '{value}'"))
    }
}

fn target(world: &World, known: Known, random: &mut Rng) -> Target {
    let write = one_of(random, &world.model.writes);
    let Some(write) = write else { return Target::End };
    match random.u32(0..100) {
        0..22 => Target::End,
        22..45 => Target::Time(time(&write, random)),
        45..67 => Target::Lsn(lsn(&write, random)),
        67..80 => {
            let names: Vec<String> =
                world.model.marks.iter().map(|mark| mark.name.clone()).collect();
            Target::Name(one_of(random, &names).unwrap_or_else(|| "nowhere".to_owned()))
        }
        80..93 => {
            let rolled_back = one_of(random, &world.model.rolled_back);
            let xid = rolled_back.filter(|_| random.u32(0..5) == 0);
            Target::Xid(xid.unwrap_or(write.transaction.xid))
        }
        _ if known.immediate => Target::Immediate,
        _ => Target::Time(write.transaction.time + 3_600_000_000),
    }
}

fn time(write: &Write, random: &mut Rng) -> i64 {
    write.transaction.time + [0, 0, -1, 1000][random.usize(0..4)]
}

fn lsn(write: &Write, random: &mut Rng) -> Lsn {
    // Its commit record, the byte before, somewhere beyond.
    let offset = [0, 0, -1, 1, 64, 500_000][random.usize(0..6)];
    Lsn(write.commit.0.saturating_add_signed(offset))
}

/// A time as PostgreSQL and wal_e read it.
pub fn time_text(microseconds: i64) -> String {
    let format = format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]+00"
    );
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1000)
        .ok()
        .and_then(|time| time.format(format).ok())
        .expect("the times of a test are of this age")
}
