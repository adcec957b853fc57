//! The targets of `fuzz/`, each fed with thousands of mutated inputs from a seed: what runs in every
//! test run, on stable Rust. `HOLDFAST_FUZZ_SEED` and `HOLDFAST_FUZZ_INPUTS` choose others and more.

mod targets;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::panic::{AssertUnwindSafe, catch_unwind};
use targets::TARGETS;

/// What breaks parsers: signs, separators, quotes, escapes, characters of several bytes.
const TOKENS: [&str; 24] = [
    "0",
    "9",
    ".",
    "-",
    "e",
    "_",
    ",",
    "=",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "null",
    "1e308",
    "\u{0}",
    "\\u0000",
    "\\ud800",
    "\u{e4}",
    "\u{1f600}",
    "\u{2028}",
    "99999999999999999999",
    "USD",
    "\n",
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// One input: something known, changed a few times.
fn input(random: &mut StdRng, corpus: &[&str]) -> Vec<u8> {
    let mut bytes = corpus.choose(random).map_or_else(Vec::new, |text| text.as_bytes().to_vec());
    for _ in 0..random.random_range(0..6) {
        let at = random.random_range(0..=bytes.len());
        let until = random.random_range(at..=bytes.len().min(at + 12));
        match random.random_range(0..5) {
            0 => drop(bytes.splice(at..at, TOKENS.choose(random).unwrap().bytes())),
            1 => drop(bytes.splice(at..until, TOKENS.choose(random).unwrap().bytes())),
            2 => drop(bytes.drain(at..until)),
            3 => {
                let other = corpus.choose(random).unwrap().as_bytes();
                let from = random.random_range(0..=other.len());
                bytes.splice(at..until, other[from..].iter().copied());
            }
            _ if at < bytes.len() => bytes[at] = random.random(),
            _ => bytes.push(random.random()),
        }
    }
    bytes
}

fn fed(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    let (seed, inputs) = (number("HOLDFAST_FUZZ_SEED", 1), number("HOLDFAST_FUZZ_INPUTS", 20_000));
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..inputs {
        let input = input(&mut random, target.corpus);
        let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        assert!(ended.is_ok(), "{name} fails on b\"{}\" (seed {seed})", input.escape_ascii());
    }
}

macro_rules! fed {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            fed(stringify!($name));
        })+

        #[test]
        fn every_target_is_fed() {
            let fed = [$(stringify!($name)),+];
            assert!(TARGETS.iter().all(|target| fed.contains(&target.name)));
            for target in TARGETS {
                let path = format!("{}/fuzz/fuzz_targets/{}.rs", env!("CARGO_MANIFEST_DIR"), target.name);
                assert!(std::path::Path::new(&path).exists(), "{path} is missing");
            }
        }
    };
}

fed! { money ids bodies events cursors configuration }
