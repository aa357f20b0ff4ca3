//! Medians, spreads and intervals of few repeats.

/// The median; NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (_, _) if sorted.is_empty() => f64::NAN,
        (middle, 1) => sorted[middle],
        (middle, _) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Half of the range, as a fraction of the median.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let (low, high) = range(values);
    (high - low) / 2.0 / median(values)
}

/// The least and the greatest.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// Resamples of the bootstrap.
const RESAMPLES: usize = 4_000;

/// The 95 % interval of the median, by the percentile bootstrap. The same values give the same interval.
pub(crate) fn interval(values: &[f64]) -> (f64, f64) {
    let mut random = Random::new(1);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let resample: Vec<f64> = values.iter().map(|_| values[random.below(values.len())]).collect();
            median(&resample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    (medians[RESAMPLES / 40], medians[RESAMPLES - 1 - RESAMPLES / 40])
}

/// A repeatable source of numbers (xorshift64*).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(bits).unwrap_or(0) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0]).to_bits(), 2.5_f64.to_bits());
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_interval_holds_the_median_and_lies_within_the_range() {
        let values = [1.0, 1.1, 0.9, 1.05, 0.97, 1.3, 1.02];
        let ((low, high), (least, most)) = (interval(&values), range(&values));
        assert!(least <= low && low <= median(&values) && median(&values) <= high && high <= most, "{low} {high}");
    }

    #[test]
    fn a_value_far_out_does_not_move_the_interval_far() {
        let values = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 9.0];
        assert!(interval(&values).1 < 9.0);
    }
}
