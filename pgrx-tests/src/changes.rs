//! Random changes of every kind that a cluster's files go through.

use fastrand::Rng;

use crate::cluster::Cluster;

/// A cluster that is changed, and what there is in it.
#[derive(Debug)]
pub struct Changes {
    random: Rng,
    tables: Vec<String>,
    partitions: Vec<(String, bool)>,
    databases: Vec<Database>,
    made: u32,
}

#[derive(Debug)]
struct Database {
    name: String,
    oid: u32,
}

/// OIDs that databases get by turns, so that they come again.
const DATABASE_OIDS: std::ops::Range<u32> = 90_001..90_004;

impl Changes {
    /// Begins with a few tables, a tablespace "extra" that exists, and two databases to copy.
    pub fn begin(cluster: &Cluster, random: Rng) -> Changes {
        for statement in [
            "CREATE DATABASE model_a",
            "CREATE DATABASE model_b",
            "CREATE SEQUENCE numbers",
            "CREATE TABLE parts (i int, t text) PARTITION BY LIST (i)",
        ] {
            cluster.execute(statement);
        }
        for (model, rows) in [("model_a", 20_000), ("model_b", 15_000)] {
            let fill = format!(
                "CREATE TABLE filled AS SELECT g, md5((g * {rows})::text) AS t FROM generate_series(1, {rows}) g; CREATE INDEX ON filled (t)"
            );
            cluster.execute_in(model, &fill);
        }
        let mut changes = Changes {
            random,
            tables: Vec::new(),
            partitions: Vec::new(),
            databases: Vec::new(),
            made: 0,
        };
        for _ in 0..4 {
            changes.create_table(cluster);
        }
        changes
    }

    /// Makes `count` changes.
    pub fn make(&mut self, cluster: &Cluster, count: u32) {
        for _ in 0..count {
            self.one(cluster);
        }
    }

    fn next_name(&mut self, beginning: &str) -> String {
        self.made += 1;
        format!("{beginning}{}", self.made)
    }

    fn create_table(&mut self, cluster: &Cluster) {
        let name = self.next_name("t");
        let place = *self.random.choice(["pg_default", "extra"].iter()).expect("there are some");
        let rows = self.random.u32(0..8000);
        cluster.execute(&format!(
            "CREATE TABLE {name} (i int, t text, p point, a int[], big text) TABLESPACE {place}"
        ));
        let (kind, column) = *self
            .random
            .choice(
                [
                    ("btree", "i"),
                    ("hash", "t"),
                    ("gist", "p"),
                    ("spgist", "p"),
                    ("gin", "a"),
                    ("brin", "i"),
                ]
                .iter(),
            )
            .expect("there are some");
        cluster.execute(&format!("CREATE INDEX ON {name} USING {kind} ({column})"));
        cluster.execute(&format!("CREATE INDEX {name}_order ON {name} (i)"));
        insert(cluster, &name, rows);
        self.tables.push(name);
    }

    fn one(&mut self, cluster: &Cluster) {
        if self.tables.is_empty() {
            return self.create_table(cluster);
        }
        let index = self.random.usize(0..self.tables.len());
        let table = self.tables[index].clone();
        let share = self.random.u32(1..60);
        let run = |sql: &str| cluster.execute(sql);
        match self.random.u32(0..30) {
            0 | 1 => self.create_table(cluster),
            2 => {
                self.tables.swap_remove(index);
                run(&format!("DROP TABLE {table}"));
            }
            3 | 4 => insert(cluster, &table, self.random.u32(1..5000)),
            5 => run(&format!("UPDATE {table} SET t = md5(t) WHERE i % 61 < {share}")),
            6 => run(&format!("UPDATE {table} SET i = i + 1 WHERE i % 997 = {share}")),
            7 => run(&format!("DELETE FROM {table} WHERE i % 61 < {share}")),
            8 => run(&format!("VACUUM {table}")),
            9 => run(&format!("VACUUM (FREEZE) {table}")),
            10 => run(&format!("VACUUM FULL {table}")),
            11 => run(&format!("CLUSTER {table} USING {table}_order")),
            12 => run(&format!("REINDEX TABLE {table}")),
            13 => run(&format!("TRUNCATE {table}")),
            // The end of the table is cut off by the vacuum, and written again.
            14 => {
                run(&format!("DELETE FROM {table} WHERE ctid >= '(10,0)'"));
                run(&format!("VACUUM {table}"));
                insert(cluster, &table, self.random.u32(1..3000));
            }
            15 => {
                let name = self.next_name("frozen");
                run(&format!(
                    "BEGIN; CREATE TABLE {name} (i int, t text, p point, a int[], big text); COPY {name} (i) FROM PROGRAM 'seq 1 4000' (FREEZE); COMMIT"
                ));
                run(&format!("CREATE INDEX {name}_order ON {name} (i)"));
                self.tables.push(name);
            }
            16 => run(&format!("ALTER TABLE {table} SET TABLESPACE extra")),
            17 => run(&format!("ALTER TABLE {table} SET TABLESPACE pg_default")),
            18 => {
                run(&format!("ALTER TABLE {table} SET UNLOGGED"));
                run(&format!("UPDATE {table} SET t = 'unlogged' WHERE i % 61 < {share}"));
                run(&format!("ALTER TABLE {table} SET LOGGED"));
            }
            19 => run("SELECT nextval('numbers') FROM generate_series(1, 100)"),
            20 => run("ALTER SEQUENCE numbers RESTART"),
            21 => run("SELECT lo_from_bytea(0, decode(repeat(md5(random()::text), 500), 'hex'))"),
            22 => run("SELECT lo_unlink(oid) FROM pg_largeobject_metadata LIMIT 3"),
            23 => self.attach_or_detach(cluster),
            24 | 25 => self.create_or_drop_database(cluster),
            26 => self.move_database(cluster),
            27 => run(&format!(
                "INSERT INTO {table} (i, big) SELECT g, string_agg(md5(random()::text), '') FROM generate_series(1, 30) g, generate_series(1, 300) GROUP BY g"
            )),
            28 => {
                run(&format!(
                    "BEGIN; UPDATE {table} SET t = 'prepared' WHERE i % 61 < {share}; PREPARE TRANSACTION 'p'"
                ));
                let end = if self.random.bool() { "COMMIT" } else { "ROLLBACK" };
                run(&format!("{end} PREPARED 'p'"));
            }
            // Reads set hints.
            _ => run(&format!("SELECT count(*) FROM {table}; CHECKPOINT")),
        }
    }

    fn attach_or_detach(&mut self, cluster: &Cluster) {
        let chosen = self.random.usize(0..self.partitions.len() + 1);
        match self.partitions.get_mut(chosen) {
            Some((name, attached)) => {
                let number = name.trim_start_matches("part");
                cluster.execute(&match attached {
                    true => format!("ALTER TABLE parts DETACH PARTITION {name}"),
                    false => {
                        format!(
                            "ALTER TABLE parts ATTACH PARTITION {name} FOR VALUES IN ({number})"
                        )
                    }
                });
                *attached = !*attached;
            }
            None => {
                let name = self.next_name("part");
                let number = name.trim_start_matches("part");
                cluster.execute(&format!(
                    "CREATE TABLE {name} PARTITION OF parts FOR VALUES IN ({number})"
                ));
                cluster.execute(&format!(
                    "INSERT INTO parts SELECT {number}, md5(g::text) FROM generate_series(1, 3000) g"
                ));
                self.partitions.push((name, true));
            }
        }
    }

    /// With the OID of one that was dropped, and the content of another.
    fn create_or_drop_database(&mut self, cluster: &Cluster) {
        let free = DATABASE_OIDS.filter(|oid| self.databases.iter().all(|of| of.oid != *oid));
        let free: Vec<u32> = free.collect();
        if free.is_empty() || (!self.databases.is_empty() && self.random.bool()) {
            let index = self.random.usize(0..self.databases.len());
            let Database { name, .. } = self.databases.swap_remove(index);
            return cluster.execute(&format!("DROP DATABASE {name}"));
        }
        let oid = free[self.random.usize(0..free.len())];
        let name = self.next_name("d");
        let model = *self.random.choice(["model_a", "model_b"].iter()).expect("there are some");
        let strategy = *self.random.choice(["wal_log", "file_copy"].iter()).expect("some");
        cluster.execute(&format!(
            "CREATE DATABASE {name} TEMPLATE {model} STRATEGY {strategy} OID {oid}"
        ));
        self.databases.push(Database { name, oid });
    }

    fn move_database(&mut self, cluster: &Cluster) {
        let Some(database) = self.random.choice(self.databases.iter()) else { return };
        let name = &database.name;
        let place = *self.random.choice(["pg_default", "extra"].iter()).expect("there are some");
        cluster.execute(&format!("ALTER DATABASE {name} SET TABLESPACE {place}"));
        cluster.execute_in(name, "UPDATE filled SET t = md5(t) WHERE g % 50 = 0");
    }
}

fn insert(cluster: &Cluster, table: &str, rows: u32) {
    cluster.execute(&format!(
        "INSERT INTO {table} SELECT g, md5(g::text), point(g, g % 100), ARRAY[g % 50, g % 7] FROM generate_series(1, {rows}) g"
    ));
}
