//! What can happen to the servers of a history.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::judge::harmed;
use super::model::{Backup, Mark, Write};
use super::waldump;
use super::world::{Role, World, now};
use crate::cluster::{StopMode, cancelled_after, rows};
use crate::wal_e::run_wal_e;

/// How long a base backup may take whose WAL cannot be archived.
const STUCK_BACKUP_LIMIT: Duration = Duration::from_secs(8);

/// How long any other may take.
const BACKUP_LIMIT: Duration = Duration::from_secs(120);

impl World {
    /// Commits a transaction that adds a row, perhaps removes one, and writes about
    /// `kilobytes` of WAL.
    pub fn write(&mut self, index: usize, kilobytes: u32, removes: Option<u32>) {
        let (adds, name) = (self.new_row(), self.nodes[index].name);
        let branch = self.nodes[index].branch;
        let mut client = self.nodes[index].cluster.client();
        let mut ask = |sql: &str| {
            let answer = rows(&mut client, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            let last = answer.into_iter().next_back().into_iter().flatten();
            last.map(Option::unwrap_or_default).collect::<Vec<String>>()
        };
        let xid = ask(&format!(
            "BEGIN; INSERT INTO moments VALUES ({adds}, repeat('x', 100)); \
             DELETE FROM moments WHERE n = {}; SELECT pg_current_xact_id()",
            removes.unwrap_or_default()
        ));
        let xid = xid[0].clone();
        ask(&noise(kilobytes));
        let before = ask("SELECT pg_current_wal_insert_lsn()")[0].clone();
        ask("COMMIT");
        let number = xid.parse().expect("a transaction has a number");
        let (commit, transaction) = waldump::commit(&self.nodes[index].cluster, &before, number);
        let removed = removes.map_or_else(String::new, |row| format!(", removes {row}"));
        self.note(format!(
            "{name}: adds row {adds}{removed}, {kilobytes} kB (xid {xid}, committed at {commit}, {})",
            transaction.time
        ));
        self.model.add_write(Write { branch, transaction, commit, adds, removes });
    }

    /// Rolls a transaction back.
    pub fn roll_back(&mut self, index: usize) {
        let cluster = &self.nodes[index].cluster;
        let mut client = cluster.client();
        let answer = rows(
            &mut client,
            "BEGIN; INSERT INTO moments VALUES (0); SELECT pg_current_xact_id(); ROLLBACK",
        );
        let xid = answer.expect("a transaction can be rolled back")[0][0].clone();
        let xid = xid.and_then(|xid| xid.parse().ok()).expect("a transaction has a number");
        self.model.rolled_back.push(xid);
        self.note(format!("{}: rolls back (xid {xid})", self.nodes[index].name));
    }

    /// Makes a restore point.
    pub fn mark(&mut self, index: usize, name: &str) {
        let node = &self.nodes[index];
        let lsn = node.cluster.query_one(&format!("SELECT pg_create_restore_point('{name}')"));
        self.model.marks.push(Mark { name: name.to_owned() });
        self.note(format!("{}: restore point \"{name}\" (ends at {lsn})", self.nodes[index].name));
    }

    /// Ends the current segment and sees to it that it is archived.
    pub fn switch(&mut self, index: usize) {
        let segment = self.nodes[index].cluster.switch_wal();
        self.note(format!("{}: switches WAL, ends {segment}", self.nodes[index].name));
        self.wait_for_archiver_of(index);
    }

    /// Takes a base backup, an incremental one if it can be, and writes meanwhile when `writes` are
    /// wanted.
    pub fn back_up(&mut self, index: usize, writes: u32, incremental: bool) {
        let name = self.nodes[index].name;
        let stuck = self.nodes[index].stuck;
        let contested =
            self.model.is_contested(self.model.branches[self.nodes[index].branch].timeline);
        let mut client = self.nodes[index].cluster.client();
        let session = std::thread::spawn(move || {
            let limit = if contested { STUCK_BACKUP_LIMIT } else { BACKUP_LIMIT };
            let sql = format!("SELECT wale_backup_push(incremental => {incremental})");
            cancelled_after(&mut client, limit, |client| rows(client, &sql))
        });
        for _ in 0..writes {
            self.write(index, 200, None);
        }
        match session.join().expect("the session's thread does not panic") {
            Ok(answer) => {
                let backup = answer[0][0].clone().unwrap_or_default();
                self.note(format!("{name}: base backup {backup}"));
                self.add_backup(index, backup);
            }
            Err(error) if contested || stuck => {
                let why = crate::cluster::describe(&error).replace('\n', " ");
                self.note(format!("{name}: base backup, refused: {why}"));
            }
            Err(error) => {
                let why = crate::cluster::describe(&error);
                let log = self.nodes[index].cluster.log_tail();
                self.breach(format!("{name}: a base backup failed: {why}\n{log}"));
            }
        }
    }

    /// Makes a full backup of the newest one, if that is an incremental one that can be restored.
    pub fn merge(&mut self) {
        let Some(delta) = self.model.backups.last().cloned() else { return };
        let is_there = self.archive.backups().contains(&delta.name);
        if !is_there || !delta.name.contains("_D_") || harmed(self, &delta.name) {
            return;
        }
        let finished = run_wal_e(&self.archive, ["backup-merge", &delta.name]);
        if !finished.status.success() {
            self.breach(format!("{} could not be merged: {finished}", delta.name));
            return;
        }
        let name = finished.stdout.trim().to_owned();
        self.note(format!("archive: {} becomes {name}", delta.name));
        self.model.backups.push(Backup { name, ..delta });
    }

    /// Notes a base backup that was taken.
    pub fn add_backup(&mut self, index: usize, name: String) {
        let node = &self.nodes[index];
        // What is no longer in the archive is not listed.
        let sql = format!(
            "SELECT start_lsn, (extract(epoch FROM finish_time) * 1000000)::bigint \
             FROM wale_backup_list() WHERE backup_name = '{name}'"
        );
        let listed = node.cluster.query(&sql);
        let facts =
            listed.first().and_then(|row| Some((row[0].parse().ok()?, row[1].parse().ok()?)));
        let Some((start, finished)) = facts else {
            self.breach(format!("base backup {name} was reported as complete, and is not listed"));
            return;
        };
        let tablespaces = node.cluster.query(
            "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname NOT LIKE 'pg_%'",
        );
        let tablespaces = tablespaces.concat();
        let branch = node.branch;
        self.model.backups.push(Backup { name, branch, start, finished, tablespaces });
    }

    /// Makes a standby, which restores from the archive, too, when `from_archive`.
    pub fn make_standby(&mut self, index: usize, from_archive: bool, always: bool) {
        let mut cluster = self.nodes[index].cluster.make_standby();
        for line in NO_TARGET {
            cluster.configure(line);
        }
        if from_archive {
            let command = crate::restore::restore_command(&self.archive);
            cluster.configure(&format!("restore_command = '{command}'"));
        }
        if always {
            cluster.configure("archive_mode = always");
        }
        let own = self.model.branches[self.nodes[index].branch].timeline;
        if self.model.branches.iter().any(|branch| branch.timeline > own) {
            // The newest timeline of the archive is not one of its primary's.
            cluster.configure("recovery_target_timeline = 'current'");
        }
        let (branch, of) = (self.nodes[index].branch, self.nodes[index].name);
        if cluster.try_start().is_err() {
            // Its primary's WAL has been replaced in the archive by that of another.
            self.note(format!("(a standby of {of} does not start)"));
            return;
        }
        let added = self.add_node(cluster, Role::Standby(index), branch);
        let how = match (from_archive, always) {
            (true, true) => " with restore_command and archive_mode = always",
            (true, false) => " with restore_command",
            (false, true) => " with archive_mode = always",
            (false, false) => "",
        };
        self.note(format!("{}: is made, a standby of {of}{how}", self.nodes[added].name));
    }

    /// Promotes a standby. Its primary, if it runs, goes on along its own timeline.
    pub fn promote(&mut self, index: usize) {
        let name = self.nodes[index].name;
        if !self.nodes[index].cluster.is_running() {
            self.nodes[index].role = Role::Lost;
            self.note(format!("({name} has ended and cannot be promoted)"));
            return;
        }
        if let Role::Standby(upstream) = self.nodes[index].role
            && self.nodes[upstream].role == Role::Running
            && self.nodes[upstream].branch == self.nodes[index].branch
        {
            self.wait_for_replay(index, upstream);
        }
        let before = now();
        let answer = self.nodes[index].cluster.try_query("postgres", "SELECT pg_promote()");
        if !answer.is_ok_and(|rows| rows[0][0].as_deref() == Some("t")) {
            // What it replayed may be of two branches that wrote on the same timeline.
            let timeline = self.model.branches[self.nodes[index].branch].timeline;
            if !self.model.is_contested(timeline) {
                let log = self.nodes[index].cluster.log_tail();
                self.breach(format!("{name} cannot be promoted:\n{log}"));
            }
            self.nodes[index].role = Role::Lost;
            self.note(format!("({name} cannot be promoted)"));
            return;
        }
        self.begin_branch(index, before);
        self.note(format!("{}: is promoted", self.nodes[index].name));
        self.wait_for_archiver_of(index);
        self.describe_branch(index);
    }

    /// Waits until a standby has what its primary wrote. It may have left it for a newer
    /// timeline of the archive.
    fn wait_for_replay(&mut self, standby: usize, primary: usize) {
        let lsn = self.nodes[primary].cluster.query_one("SELECT pg_current_wal_flush_lsn()");
        let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let answer = self.nodes[standby].cluster.try_query("postgres", &reached);
            if answer.is_ok_and(|rows| rows[0][0].as_deref() == Some("t")) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.note(format!("({} does not follow)", self.nodes[standby].name));
    }

    /// A server has begun a timeline, or a way of its own along one.
    pub fn begin_branch(&mut self, index: usize, before: i64) {
        let segment = self.nodes[index].cluster.current_segment();
        let timeline = u32::from_str_radix(&segment[..8], 16).expect("a segment has a timeline");
        let base = self.rows_of(index);
        self.nodes[index].branch = self.model.add_branch(timeline, base, (before, now()));
        self.nodes[index].role = Role::Running;
        self.nodes[index].stuck = false;
    }

    /// Says in the script where a node is.
    pub fn describe_branch(&mut self, index: usize) {
        let branch = &self.model.branches[self.nodes[index].branch];
        let rows: Vec<String> = branch.base.iter().map(u32::to_string).collect();
        let name = self.nodes[index].name;
        self.note(format!("    ({name} is on timeline {}: {})", branch.timeline, rows.join(" ")));
    }

    /// Kills the postmaster.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].cluster.kill_postmaster();
        self.nodes[index].role = Role::Dead;
        self.note(format!("{}: is killed", self.nodes[index].name));
    }

    /// Shuts a server down.
    pub fn shut_down(&mut self, index: usize, mode: StopMode) {
        self.stop(index, mode);
        self.note(format!("{}: is stopped ({mode:?})", self.nodes[index].name));
    }

    /// Starts a server again, whatever has become of its cluster in the meantime.
    pub fn bring_back(&mut self, index: usize) {
        self.nodes[index].cluster.start();
        self.nodes[index].role = Role::Running;
        self.note(format!("{}: is started again", self.nodes[index].name));
        let (rows, known) = (self.rows_of(index), self.model.rows(self.nodes[index].branch));
        assert_eq!(rows, known, "the harness and node {} differ", self.nodes[index].name);
    }

    /// Writes rows into a new tablespace.
    pub fn create_tablespace(&mut self, index: usize, random: &mut Rng) {
        let name = format!("ts_{:04x}", random.u16(..));
        let node = &mut self.nodes[index];
        node.cluster.create_tablespace(&name);
        node.cluster.execute(&format!(
            "CREATE TABLE in_{name} TABLESPACE {name} AS SELECT i AS n, repeat('y', 50) AS filler \
             FROM generate_series(1, 2000) i"
        ));
        node.tablespaces.push(name.clone());
        let name = format!("{}: creates tablespace {name}, with a table in it", node.name);
        self.note(name);
    }

    /// Drops a tablespace with its table.
    pub fn drop_tablespace(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if let Some(name) = node.tablespaces.pop() {
            node.cluster.execute(&format!("DROP TABLE in_{name}"));
            node.cluster.execute(&format!("DROP TABLESPACE {name}"));
            let line = format!("{}: drops tablespace {name}", node.name);
            self.note(line);
        }
    }

    /// Raises what a server in recovery must have as large as its primary had it.
    pub fn raise_max_connections(&mut self, index: usize) {
        let now = self.nodes[index].cluster.query_one("SHOW max_connections");
        let to = now.parse::<u32>().expect("a setting is a number") + 20;
        let followers = self.nodes_where(|node| node.role == Role::Standby(index));
        // One that has ended has nothing to restart.
        let followers: Vec<usize> =
            followers.into_iter().filter(|each| self.nodes[*each].cluster.is_running()).collect();
        for each in followers.into_iter().chain([index]) {
            self.nodes[each].cluster.configure(&format!("max_connections = {to}"));
            self.nodes[each].cluster.restart();
        }
        self.note(format!("{}: restarts with max_connections = {to}", self.nodes[index].name));
    }

    /// Leaves a setting of an earlier recovery in `postgresql.conf`.
    pub fn leave_setting(&mut self, index: usize, line: &str) {
        self.nodes[index].cluster.configure(line);
        self.nodes[index].cluster.reload();
        self.note(format!("{}: has {line} in postgresql.conf", self.nodes[index].name));
    }

    /// Removes an object, or damages it.
    pub fn harm(&mut self, object: &str, remove: bool) {
        match remove {
            true => self.archive.remove_object(object),
            false => self.archive.corrupt_object(object),
        }
        self.harmed.push(object.to_owned());
        self.note(format!("archive: {} {object}", if remove { "loses" } else { "damages" }));
    }
}

/// A standby is made with the settings of its primary.
pub const NO_TARGET: [&str; 4] = [
    "recovery_target_time = ''",
    "recovery_target_xid = ''",
    "recovery_end_command = ''",
    "recovery_min_apply_delay = 0",
];

fn noise(kilobytes: u32) -> String {
    format!(
        "SELECT count(pg_logical_emit_message(false, 'noise', (SELECT \
         string_agg(sha512((i * 100 + j)::text::bytea)::text, '') FROM generate_series(1, 80) j))) \
         FROM generate_series(1, {kilobytes} / 10) i"
    )
}
