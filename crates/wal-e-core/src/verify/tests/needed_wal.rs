//! The WAL from start to stop.

use super::*;

#[tokio::test]
async fn every_segment_from_start_to_stop_is_read() {
    for index in 0..SEGMENTS.len() {
        let fixture = Fixture::new().await;
        fixture.change(&fixture.wal(index), flip_last).await;
        fixture.assert_fails(&["wal"], SEGMENTS[index]).await;
        let name: WalFileName = SEGMENTS[(index + 1) % SEGMENTS.len()].parse().unwrap();
        let other = fixture.encode(&sample::segment(&name, 9));
        fixture.put(&fixture.wal(index), other).await;
        fixture.assert_fails(&["wal"], SEGMENTS[index]).await;
        fixture.memory.delete(&fixture.wal(index)).await.unwrap();
        fixture.assert_fails(&["wal"], SEGMENTS[index]).await;
    }
    let fixture = Fixture::new().await;
    let stop = format!("\"FinishLSN\":{}", 0x40_0100);
    fixture.change_text(&layout::sentinel(NAME), &stop, "\"FinishLSN\":9223372036854775807").await;
    let failures = fixture.failures().await;
    assert!(failures.iter().any(|(check, _)| *check == "wal"), "{failures:#?}");
}

#[tokio::test]
async fn wal_of_another_history_is_recognised_by_its_records() {
    let (start, stop) = (Lsn(0x20_0028), Lsn(0x40_0100));
    // One without the backup's checkpoint, one without its end, one that continues elsewhere.
    let mut without_checkpoint = WalWriter::new(1, 2);
    without_checkpoint.noise(32);
    without_checkpoint.noise(88 + 2);
    without_checkpoint.switch();
    without_checkpoint.switch();
    without_checkpoint.noise(152);
    without_checkpoint.backup_end(start);
    without_checkpoint.switch();
    let mut without_end = WalWriter::new(1, 2);
    without_end.noise(32);
    without_end.checkpoint(start);
    without_end.switch();
    without_end.switch();
    without_end.noise(152);
    without_end.noise(16);
    assert!(without_end.position() >= stop);
    without_end.switch();
    let mut elsewhere = WalWriter::new(1, 3);
    elsewhere.noise(1_500_000);
    let elsewhere = elsewhere.segments().split_off(1);
    for (segments, told) in [
        (without_checkpoint.segments(), "no checkpoint"),
        (without_end.segments(), "no record of this backup's end"),
        (elsewhere, "breaks off"),
    ] {
        let fixture = Fixture::new().await;
        for (name, content) in segments {
            let key = layout::wal_file(&name.parse().unwrap(), fixture.encoding);
            fixture.put(&key, fixture.encode(&content)).await;
        }
        let failures = fixture.failures().await;
        assert!(failures.iter().all(|(check, _)| *check == "wal"), "{failures:#?}");
        assert!(failures[0].1.contains(told), "{told}: {failures:#?}");
    }
}
