//! What is said of values that were measured several times.

/// The value in the middle; of an even number of values, the mean of the two there.
/// `None` of no value.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// The smallest value that at least so many of a hundred are not above; `None` of no value.
pub fn percentile(values: &[f64], of_hundred: f64) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (sorted.len() as f64 * of_hundred / 100.0).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The smallest and the largest value; `None` of no value.
pub fn range(values: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    Some((*sorted.first()?, *sorted.last()?))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn percentile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=50).map(f64::from).collect();
        assert_eq!(percentile(&values, 50.0), Some(25.0));
        assert_eq!(percentile(&values, 95.0), Some(48.0));
        assert_eq!(percentile(&values, 100.0), Some(50.0));
        assert_eq!(percentile(&[], 50.0), None);
    }
}
