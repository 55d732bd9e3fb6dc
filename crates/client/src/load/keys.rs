//! Which key is next.

use super::Distribution;

/// Draws from a Zipf distribution, made once and gone through again and again, each connection beginning elsewhere: to draw
/// one costs as much as the rest of a request.
const DRAWS: usize = 1 << 20;

/// What the connections of a load share of their keys.
#[derive(Debug)]
pub(super) struct Keys {
    count: u32,
    distribution: Distribution,
    draws: Vec<u32>,
}

impl Keys {
    pub(super) fn new(count: u32, distribution: Distribution) -> Self {
        let draws = match distribution {
            Distribution::Zipf(exponent) => {
                let (zipf, mut random) = (Zipf::new(count, exponent), Random(0));
                (0..DRAWS).map(|_| zipf.draw(&mut random)).collect()
            }
            Distribution::Uniform | Distribution::Sequential => Vec::new(),
        };
        Self { count, distribution, draws }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Where the connection with this number, of so many, begins.
    pub(super) fn begin(&self, index: usize, connections: usize) -> Next {
        let share = |of: usize| (index as u64 * of as u64 / connections.max(1) as u64) as u32;
        Next {
            random: Random(index as u64),
            at: match self.distribution {
                Distribution::Sequential => share(self.count as usize),
                Distribution::Zipf(_) => share(DRAWS),
                Distribution::Uniform => 0,
            },
        }
    }
}

/// Where a connection is.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) random: Random,
    at: u32,
}

impl Next {
    /// The number of the next key.
    pub(super) fn key(&mut self, keys: &Keys) -> u32 {
        match keys.distribution {
            Distribution::Uniform => self.random.below(keys.count),
            Distribution::Zipf(_) => {
                self.at = (self.at + 1) % DRAWS as u32;
                keys.draws.get(self.at as usize).copied().unwrap_or_default()
            }
            Distribution::Sequential => {
                let key = self.at;
                self.at = if key + 1 < keys.count { key + 1 } else { 0 };
                key
            }
        }
    }
}

/// Numbers that look random and are the same each time (SplitMix64, Steele et al. 2014).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// 0 to `count - 1`.
    fn below(&mut self, count: u32) -> u32 {
        (((self.next() >> 32) * u64::from(count)) >> 32) as u32
    }

    /// 0 to 1, without 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A Zipf distribution, drawn from by rejection-inversion (Hörmann and Derflinger 1996): by the inverse of the integral of
/// x to the power of -exponent, a hat over the bars; what misses its bar, seldom, is drawn again.
#[derive(Debug)]
struct Zipf {
    count: u32,
    exponent: f64,
    /// The integral at the left end of the first bar, all of which is taken, and at the right end of the last.
    first: f64,
    last: f64,
    /// So near to the right end of a bar whatever is drawn is below it.
    sure: f64,
}

impl Zipf {
    fn new(count: u32, exponent: f64) -> Self {
        let mut zipf = Self { count, exponent, first: 0.0, last: 0.0, sure: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(f64::from(count) + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - 2.0_f64.powf(-exponent));
        zipf
    }

    fn draw(&self, random: &mut Random) -> u32 {
        loop {
            let area = self.last + random.unit() * (self.first - self.last);
            let x = self.inverse(area);
            let rank = x.round().clamp(1.0, f64::from(self.count));
            if rank - x <= self.sure || area >= self.integral(rank + 0.5) - rank.powf(-self.exponent) {
                return rank as u32 - 1;
            }
        }
    }

    /// The integral of x to the power of -exponent, but for a constant: (x^(1 - exponent) - 1) / (1 - exponent), which
    /// becomes the logarithm as the exponent becomes 1.
    fn integral(&self, x: f64) -> f64 {
        let (log, power) = (x.ln(), 1.0 - self.exponent);
        if power.abs() < 1e-8 { log } else { (power * log).exp_m1() / power }
    }

    fn inverse(&self, area: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-8 { area.exp() } else { ((power * area).max(-1.0).ln_1p() / power).exp() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u32 = 1000;

    fn counts(distribution: Distribution, connections: usize, requests: usize) -> Vec<u32> {
        let keys = Keys::new(KEYS, distribution);
        let mut counts = vec![0; KEYS as usize];
        for index in 0..connections {
            let mut next = keys.begin(index, connections);
            (0..requests).for_each(|_| counts[next.key(&keys) as usize] += 1);
        }
        counts
    }

    #[test]
    fn one_after_the_other_every_key_is_asked_for_as_often() {
        assert!(counts(Distribution::Sequential, 4, 250).iter().all(|&count| count == 1));
        assert!(counts(Distribution::Sequential, 1, 3000).iter().all(|&count| count == 3));
    }

    #[test]
    fn uniformly_no_key_is_asked_for_much_more_often_than_another() {
        let counts = counts(Distribution::Uniform, 10, 100_000);
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn by_zipf_the_nth_key_is_asked_for_as_often_as_the_first_divided_by_n_to_the_exponent() {
        for exponent in [0.5, 0.99, 1.0, 1.5, 3.0] {
            let requests = 1_000_000;
            let counts = counts(Distribution::Zipf(exponent), 1, requests);
            let sum: f64 = (1..=KEYS).map(|n| f64::from(n).powf(-exponent)).sum();
            for n in [1, 2, 3, 10, 100, 1000] {
                let expected = requests as f64 * f64::from(n).powf(-exponent) / sum;
                // Five times as much as chance makes of it.
                let tolerance = 5.0 * expected.sqrt() + 1.0;
                let count = f64::from(counts[n as usize - 1]);
                assert!((count - expected).abs() < tolerance, "{exponent}: {n}: {count}, not {expected}");
            }
        }
    }

    #[test]
    fn a_single_key_is_always_the_next() {
        for distribution in [Distribution::Uniform, Distribution::Zipf(1.0), Distribution::Sequential] {
            let keys = Keys::new(1, distribution);
            let mut next = keys.begin(3, 7);
            assert!((0..100).all(|_| next.key(&keys) == 0));
        }
    }
}
