//! How far reading many WAL segments is.

use tokio::time::{Duration, Instant};

use crate::notice::Notices;

/// How often it is said.
const EVERY: Duration = Duration::from_secs(5);

/// Says from time to time how many of the segments have been read.
#[derive(Debug)]
pub struct ReadingProgress<'a> {
    notices: &'a Notices,
    total: u64,
    said: Instant,
}

impl<'a> ReadingProgress<'a> {
    /// Of so many segments.
    pub fn new(notices: &'a Notices, total: u64) -> Self {
        ReadingProgress { notices, total, said: Instant::now() }
    }

    /// So many have been read by now.
    pub fn tell(&mut self, read: u64) {
        if self.said.elapsed() >= EVERY && read < self.total {
            self.said = Instant::now();
            self.notices.log(format!("{read} of {} WAL segments have been read", self.total));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice;

    #[test]
    fn progress_is_said_from_time_to_time() {
        let (notices, queue) = notice::channel();
        let mut progress = ReadingProgress::new(&notices, 3000);
        progress.tell(1);
        assert!(queue.drain().is_empty());
        for read in [700, 3000] {
            progress.said = Instant::now().checked_sub(EVERY).unwrap();
            progress.tell(read);
            progress.tell(read + 1);
        }
        let said: Vec<String> = queue.drain().into_iter().map(|notice| notice.message).collect();
        assert_eq!(said, ["700 of 3000 WAL segments have been read"]);
    }
}
