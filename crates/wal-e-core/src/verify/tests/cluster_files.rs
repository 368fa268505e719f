//! The files that a server reads first.

use super::*;

#[tokio::test]
async fn the_files_that_a_server_reads_first_are_checked() {
    let fixture = Fixture::new().await;
    let tar = fixture.tar("pg_control");
    fixture.change_content(&tar, |content| content[512 + 100] ^= 1).await;
    fixture.assert_fails(&["checksums", "pg_control"], "pg_control.tar.lz4").await;
    fixture.memory.delete(&tar).await.unwrap();
    fixture.assert_fails(&["tars", "checksums", "pg_control"], "pg_control.tar.lz4").await;

    // One of the same cluster at another time is as sound, and has the same CRC.
    for checkpoint in [Lsn(0x10_0060), Lsn(0x50_0060)] {
        let fixture = Fixture::new().await;
        let other = control_file::sample(CLUSTER, SEGMENT_BYTES as u32, checkpoint);
        let tar = fixture.tar("pg_control");
        fixture
            .change_content(&tar, |content| {
                content[512..512 + other.len()].copy_from_slice(&other);
            })
            .await;
        fixture.assert_fails(&["pg_control"], "pg_control.tar.lz4").await;
    }

    for (old, new) in [
        ("0/200028", "0/200029"),
        ("file 000000010000000000000002", "file 000000010000000000000003"),
        ("TIMELINE: 1", "TIMELINE: 2"),
        ("START WAL", "WHERE WAL"),
        ("LOCATION: 0/200060", "LOCATION: 0/200020"),
    ] {
        let fixture = Fixture::new().await;
        let tar = fixture.tar("backup_label");
        fixture
            .change_content(&tar, |content| {
                let position = content.windows(old.len()).position(|part| part == old.as_bytes());
                let position = position.unwrap();
                content[position..position + new.len()].copy_from_slice(new.as_bytes());
            })
            .await;
        fixture.assert_fails(&["checksums", "backup_label"], "backup_label.tar.lz4").await;
    }

    let fixture = Fixture::new().await;
    fixture
        .change_text(&layout::sentinel(NAME), "\"16384\":{\"loc\":\"", "\"16384\":{\"loc\":\"/x")
        .await;
    fixture.assert_fails(&["tablespace_map"], "backup_label.tar.lz4").await;
    fixture.change_text(&layout::sentinel(NAME), "\"16384\":{", "\"16385\":{").await;
    fixture.assert_fails(&["tablespace_map"], "16384").await;

    // One that was made after the server wrote the map.
    let fixture = Fixture::new().await;
    let later = "\"16385\":{\"loc\":\"/later\",\"link\":\"pg_tblspc/16385\"},\"16384\":{";
    fixture.change_text(&layout::sentinel(NAME), "\"16384\":{", later).await;
    let verified = fixture.verify().await.unwrap();
    assert_eq!(verified.failures(), 0, "{verified:#?}");
    assert!(verified.findings.iter().any(|row| row.detail.contains("tablespace 16385")));
}
