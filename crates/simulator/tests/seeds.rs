//! Seeds that are always played, and mistakes that are always found.
#![cfg(xferd_sim)]

use xferd_os::sim::Defect;
use xferd_simulator::{Run, run};

fn play(seed: u64, steps: u64) -> u64 {
    match run(&Run { seed, steps, ..Run::default() }) {
        Ok(outcome) => outcome.trace_hash,
        Err(violation) => panic!("seed {seed}: {violation}"),
    }
}

/// Whether a mistake is found within `seeds` seeds.
fn is_found(defect: Defect, seeds: u64) -> bool {
    (1..=seeds)
        .map(|seed| Run { seed, steps: 50, defect: Some(defect), ..Run::default() })
        .filter(|it| it.has_keys() == defect.is_about_keys())
        .any(|it| run(&it).is_err())
}

#[test]
fn no_promise_is_broken_under_the_first_forty_seeds() {
    for seed in 1..=40 {
        play(seed, 50);
    }
}

#[test]
fn the_same_seed_makes_the_same_happen() {
    for seed in [1, 2, 3, 4] {
        assert_eq!(play(seed, 30), play(seed, 30));
    }
    assert_ne!(play(1, 30), play(2, 30));
}

#[test]
fn every_mistake_that_can_be_made_is_found() {
    for defect in Defect::ALL {
        assert!(is_found(defect, 1000), "{}", defect.name());
    }
}

#[test]
fn seed_1058_a_file_whose_sync_has_failed_is_not_gone_on_with() {
    play(1058, 50);
}

/// The model's mistake, not the product's.
#[test]
fn seed_100693_two_pushes_to_one_place_may_take_what_is_held_from_each_other() {
    play(100_693, 50);
}

#[test]
fn seed_200034_keys_are_synced_once_a_second_while_connections_are_drained() {
    play(200_034, 50);
}

#[test]
fn seed_200068_the_log_of_keys_lists_no_file_that_a_power_loss_can_take() {
    play(200_068, 50);
}

#[test]
fn seed_400198_a_first_start_that_was_cut_off_keeps_no_other_from_starting() {
    play(400_198, 50);
}

/// The model's mistake, not the product's.
#[test]
fn seed_100098_what_has_expired_unseen_may_be_there_after_the_clock_is_set_back() {
    play(100_098, 50);
}
