//! Who pays whom.

use rand::Rng;
use std::fmt;
use std::str::FromStr;

/// How often a pair is drawn anew to have its ends on one shard, or on two, before it is taken as
/// it is.
const DRAWS: usize = 1000;

/// How transfers are spread over the accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// All accounts pay and are paid equally often.
    Uniform,
    /// The account of rank k pays and is paid in proportion to 1/k^skew.
    Zipf,
    /// One account pays a share of all transfers.
    HotSource,
    /// One account is paid a share of all transfers.
    HotDestination,
}

impl Mix {
    const ALL: [Self; 4] = [Self::Uniform, Self::Zipf, Self::HotSource, Self::HotDestination];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::HotSource => "hot-source",
            Self::HotDestination => "hot-destination",
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mix| mix.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("'{text}' is not a mix: use one of {names}")
        })
    }
}

/// Draws pairs of different accounts, by number.
#[derive(Clone, Debug)]
pub struct Pairs {
    mix: Mix,
    accounts: u32,
    /// With Zipf: the sum of the weights up to each rank.
    weights: Vec<f64>,
    hot_share: f64,
    across: Option<Across>,
}

/// What is known of where accounts live.
#[derive(Clone, Debug)]
pub struct Across {
    /// Which share of the transfers is to leave its shard, from 0 to 1, where that is asked for.
    pub share: Option<f64>,
    /// The shard of each account, by its number.
    pub shards: Vec<u16>,
}

impl Across {
    fn crosses(&self, (source, destination): (u32, u32)) -> bool {
        self.shards[source as usize] != self.shards[destination as usize]
    }
}

impl Pairs {
    /// `skew` is Zipf's exponent, `hot_share` the share of the transfers that touch the hot account,
    /// which is number 0. There are at least three accounts.
    pub fn new(mix: Mix, accounts: u32, skew: f64, hot_share: f64, across: Option<Across>) -> Self {
        assert!(accounts >= 3, "a pair beside the hot account");
        let ranks = if mix == Mix::Zipf { accounts } else { 0 };
        let weights = (1..=ranks)
            .scan(0.0, |sum, rank| {
                *sum += f64::from(rank).powf(-skew);
                Some(*sum)
            })
            .collect();
        Self { mix, accounts, weights, hot_share, across }
    }

    /// Source and destination of the next transfer.
    pub fn next(&self, rng: &mut impl Rng) -> (u32, u32) {
        let Some(Across { share: Some(share), .. }) = self.across else { return self.draw(rng) };
        let leaves = rng.random_bool(share);
        let mut drawn = self.draw(rng);
        for _ in 0..DRAWS {
            if self.crosses(drawn) == Some(leaves) {
                break;
            }
            drawn = self.draw(rng);
        }
        drawn
    }

    /// Whether the ends of a pair live on two shards, where that is known.
    pub fn crosses(&self, pair: (u32, u32)) -> Option<bool> {
        self.across.as_ref().map(|across| across.crosses(pair))
    }

    fn draw(&self, rng: &mut impl Rng) -> (u32, u32) {
        match self.mix {
            Mix::Uniform => two_of(0..self.accounts, rng),
            Mix::Zipf => {
                let source = self.ranked(rng);
                let destination = std::iter::repeat_with(|| self.ranked(rng));
                let other = destination.into_iter().find(|other| *other != source);
                (source, other.expect("it goes on until there is one"))
            }
            Mix::HotSource | Mix::HotDestination => {
                if !rng.random_bool(self.hot_share) {
                    return two_of(1..self.accounts, rng);
                }
                let other = rng.random_range(1..self.accounts);
                if self.mix == Mix::HotSource { (0, other) } else { (other, 0) }
            }
        }
    }

    fn ranked(&self, rng: &mut impl Rng) -> u32 {
        let all = self.weights.last().expect("there are accounts");
        let at = rng.random_range(0.0..*all);
        let rank = self.weights.partition_point(|sum| *sum <= at);
        u32::try_from(rank).map_or(self.accounts - 1, |rank| rank.min(self.accounts - 1))
    }
}

fn two_of(numbers: std::ops::Range<u32>, rng: &mut impl Rng) -> (u32, u32) {
    let count = numbers.end - numbers.start;
    let one = rng.random_range(0..count);
    let other = (one + rng.random_range(1..count)) % count;
    (numbers.start + one, numbers.start + other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn drawn(pairs: &Pairs, count: usize) -> Vec<(u32, u32)> {
        let mut rng = SmallRng::seed_from_u64(7);
        (0..count).map(|_| pairs.next(&mut rng)).collect()
    }

    fn share(of: &[(u32, u32)], which: impl Fn(&&(u32, u32)) -> bool) -> f64 {
        of.iter().filter(which).count() as f64 / of.len() as f64
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 0.01, "{found} is not {expected}");
    }

    #[test]
    fn every_mix_reads_back() {
        for mix in Mix::ALL {
            assert_eq!(mix.to_string().parse(), Ok(mix));
        }
        let error = "even".parse::<Mix>().unwrap_err();
        assert!(error.contains("uniform, zipf, hot-source, hot-destination"), "{error}");
    }

    #[test]
    fn uniform_takes_every_account_equally_often() {
        let pairs = drawn(&Pairs::new(Mix::Uniform, 4, 1.0, 0.5, None), 40_000);
        for number in 0..4 {
            close(share(&pairs, |pair| pair.0 == number), 0.25);
            close(share(&pairs, |pair| pair.1 == number), 0.25);
        }
    }

    #[test]
    fn zipf_takes_ranks_in_proportion_to_their_weights() {
        let pairs = drawn(&Pairs::new(Mix::Zipf, 1000, 1.0, 0.5, None), 40_000);
        let all: f64 = (1..=1000).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1, 2, 10] {
            close(share(&pairs, |pair| pair.0 == rank - 1), 1.0 / f64::from(rank) / all);
        }
        let flat = drawn(&Pairs::new(Mix::Zipf, 4, 0.0, 0.5, None), 40_000);
        close(share(&flat, |pair| pair.0 == 3), 0.25);
    }

    #[test]
    fn the_hot_account_has_its_share_and_no_more() {
        for hot_share in [0.0, 0.3, 1.0] {
            let source = drawn(&Pairs::new(Mix::HotSource, 100, 1.0, hot_share, None), 20_000);
            close(share(&source, |pair| pair.0 == 0), hot_share);
            assert!(source.iter().all(|pair| pair.1 != 0));
            let paid = drawn(&Pairs::new(Mix::HotDestination, 100, 1.0, hot_share, None), 20_000);
            close(share(&paid, |pair| pair.1 == 0), hot_share);
            assert!(paid.iter().all(|pair| pair.0 != 0));
        }
    }

    #[test]
    fn as_many_leave_their_shard_as_were_asked_for() {
        let shards: Vec<u16> = (0..100).map(|number| number % 4).collect();
        for mix in Mix::ALL {
            for asked in [0.0, 0.2, 1.0] {
                let across = Across { share: Some(asked), shards: shards.clone() };
                let pairs = drawn(&Pairs::new(mix, 100, 1.0, 0.5, Some(across)), 20_000);
                let leaves = |pair: &&(u32, u32)| pair.0 % 4 != pair.1 % 4;
                close(share(&pairs, leaves), asked);
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_pays_themselves_and_everybody_exists(
            mix in prop::sample::select(Mix::ALL.to_vec()),
            accounts in 3_u32..200,
            skew in 0.0_f64..4.0,
            hot_share in 0.0_f64..=1.0,
            seed: u64,
        ) {
            let pairs = Pairs::new(mix, accounts, skew, hot_share, None);
            let mut rng = SmallRng::seed_from_u64(seed);
            for _ in 0..50 {
                let (source, destination) = pairs.next(&mut rng);
                prop_assert!(source != destination);
                prop_assert!(source < accounts && destination < accounts);
            }
        }
    }
}
