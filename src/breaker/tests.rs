//! The state machine against the plainest description of it, and the probe in virtual time.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[derive(Clone, Copy, Debug)]
enum Happens {
    /// An attempt that began so many steps ago ended.
    Ended { ago: u64, answered: bool },
    /// The pause is over and the probe ended.
    Probed { answered: bool },
}

fn anything() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0_u64..4, any::<bool>()).prop_map(|(ago, answered)| Happens::Ended { ago, answered }),
        1 => any::<bool>().prop_map(|answered| Happens::Probed { answered }),
    ]
}

proptest! {
    /// It is open exactly from the third failure in a row that began when nothing had been
    /// answered since, until the first probe that is answered; pauses stay within their bounds.
    #[test]
    fn only_silence_opens_and_only_a_probe_closes(history in prop::collection::vec(anything(), 0..200)) {
        let start = Instant::now();
        let at = |step: u64| start + Duration::from_millis(step);
        let mut circuit = Circuit::new(start);
        let (mut open, mut silent, mut alive) = (false, 0, 0);
        for (step, happens) in (10_u64..).zip(history) {
            match happens {
                Happens::Ended { answered: true, .. } => {
                    circuit.answered(at(step));
                    if !open {
                        (silent, alive) = (0, step);
                    }
                }
                Happens::Ended { ago, answered: false } => {
                    let began = step - ago;
                    if !open && began >= alive {
                        silent += 1;
                    }
                    let opens = !open && silent == FAILURES;
                    open |= opens;
                    prop_assert_eq!(circuit.failed(at(began), at(step), "silence"), opens);
                }
                Happens::Probed { answered } if open => {
                    let before = circuit.pause;
                    circuit.half_open();
                    prop_assert_eq!(circuit.state, State::HalfOpen);
                    prop_assert!(circuit.outage(at(step)).is_some(), "nothing passes beside a probe");
                    circuit.probed(at(step), if answered { Ok(()) } else { Err("silence".to_owned()) });
                    if answered {
                        (open, silent, alive) = (false, 0, step);
                    } else {
                        prop_assert_eq!(circuit.pause, (before * 2).min(LONGEST_PAUSE));
                    }
                }
                Happens::Probed { .. } => {}
            }
            prop_assert_eq!(circuit.outage(at(step)).is_some(), open);
            prop_assert!((FIRST_PAUSE..=LONGEST_PAUSE).contains(&circuit.pause));
        }
    }
}

#[test]
fn one_that_relapses_waits_longer_than_one_that_fails_anew() {
    let start = Instant::now();
    let mut circuit = Circuit::new(start);
    let fall = |circuit: &mut Circuit, at| {
        for _ in 0..FAILURES {
            circuit.failed(at, at, "silence");
        }
        assert_eq!(circuit.state, State::Open);
        circuit.pause
    };
    let rise = |circuit: &mut Circuit, at| {
        circuit.half_open();
        circuit.probed(at, Ok(()));
    };
    assert_eq!(fall(&mut circuit, start), FIRST_PAUSE);
    rise(&mut circuit, start);
    assert_eq!(fall(&mut circuit, start + RELAPSE / 2), FIRST_PAUSE * 2);
    rise(&mut circuit, start + RELAPSE);
    assert_eq!(fall(&mut circuit, start + RELAPSE * 2), FIRST_PAUSE);
}

/// A dependency that answers, is silent, or hangs.
#[derive(Default)]
struct Dependency {
    answers: AtomicBool,
    hangs: AtomicBool,
    probes: AtomicUsize,
    under_way: AtomicUsize,
}

impl Dependency {
    fn breaker(self: &Arc<Self>) -> Arc<Breaker> {
        let dependency = Arc::clone(self);
        Breaker::new("redis", move || {
            let dependency = Arc::clone(&dependency);
            Box::pin(async move { dependency.probed().await })
        })
    }

    async fn probed(&self) -> Result<(), String> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        assert_eq!(self.under_way.fetch_add(1, Ordering::SeqCst), 0, "one probe at a time");
        let _over = Over(&self.under_way);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let answers = self.answers.load(Ordering::SeqCst);
        if answers { Ok(()) } else { Err("refused".to_owned()) }
    }
}

struct Over<'a>(&'a AtomicUsize);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn fail(breaker: &Arc<Breaker>) {
    for _ in 0..FAILURES {
        let began = breaker.enter().unwrap();
        breaker.failed(began, &"refused");
    }
}

async fn closed(breaker: &Breaker) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while breaker.state() != State::Closed {
        assert!(Instant::now() < deadline, "it never closes");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_closes_by_itself_and_asks_seldom_meanwhile() {
    let dependency = Arc::new(Dependency::default());
    let breaker = dependency.breaker();
    fail(&breaker);
    let outage = breaker.enter().unwrap_err();
    assert_eq!(outage.to_string(), "breaker open since 0.0 s: refused");
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(breaker.enter().is_err());
    }
    assert!((4..12).contains(&dependency.probes.load(Ordering::SeqCst)));
    dependency.answers.store(true, Ordering::SeqCst);
    closed(&breaker).await;
    breaker.enter().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_is_given_up_and_made_again() {
    let dependency = Arc::new(Dependency::default());
    dependency.hangs.store(true, Ordering::SeqCst);
    let breaker = dependency.breaker();
    fail(&breaker);
    let deadline = Instant::now() + Duration::from_secs(60);
    while dependency.probes.load(Ordering::SeqCst) < 3 {
        assert!(Instant::now() < deadline, "it is never asked again");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(breaker.enter().unwrap_err().why.starts_with("no answer within"));
    dependency.hangs.store(false, Ordering::SeqCst);
    dependency.answers.store(true, Ordering::SeqCst);
    closed(&breaker).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_probes_for_a_breaker_that_is_gone() {
    let dependency = Arc::new(Dependency::default());
    let breaker = dependency.breaker();
    fail(&breaker);
    drop(breaker);
    tokio::time::timeout(Duration::from_secs(60), std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(dependency.probes.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn what_began_before_it_opened_changes_nothing_after() {
    let dependency = Arc::new(Dependency::default());
    dependency.answers.store(true, Ordering::SeqCst);
    let breaker = dependency.breaker();
    let long_ago = breaker.enter().unwrap();
    fail(&breaker);
    breaker.answered();
    assert_eq!(breaker.state(), State::Open, "an old answer does not close it");
    closed(&breaker).await;
    (0..10).for_each(|_| breaker.failed(long_ago, &"late"));
    assert_eq!(breaker.state(), State::Closed, "old failures do not open it");
}
