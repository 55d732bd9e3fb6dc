//! The command line of the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use xferd_os::sim::Defect;
use xferd_simulator::{PROMISES, Run, Violation, run};

const HELP: &str = "\
npm run simulate -- [options]

  --seed S        play what follows from S (default: 1)
  --steps N       so many cycles of crash and restart (default: 200)
  --skip A-B,C    leave out these cycles; a failure names those that have no part in it
  --show N        show the last N happenings before a failure (default: 60, at most 2000)
  --seconds T     play fresh seeds, 50 cycles each, for so long
  --defect NAME   have the code make a mistake, and see whether it is found within a minute:
                  ack-before-sync, rename-without-sync, journal-before-data, digest-not-checked,
                  staging-left-behind, path-check-skipped, failed-sync-forgotten,
                  announcement-allocated, answers-uncounted, attributes-unsynced,
                  reply-before-commit, base-unsynced, stripe-saved-late, second-slept,
                  tail-believed, listed-unnamed, or all

Exits with 1 if a promise is broken, or if a mistake is not found.";

/// Cycles of a seed of `--seconds` and `--defect`.
const STEPS_OF_A_SEED: u64 = 50;

/// Within that a mistake has to be found.
const FOUND_WITHIN: Duration = Duration::from_secs(60);

/// Happenings that are shown unless told otherwise.
const SHOWN: usize = 60;

struct Options {
    seed: Option<u64>,
    steps: u64,
    skip: BTreeSet<u64>,
    seconds: Option<u64>,
    defects: Vec<Defect>,
    show: usize,
}

pub(crate) fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("{message}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if !options.defects.is_empty() {
        return find_defects(&options);
    }
    let began = Instant::now();
    let mut tally = Tally::default();
    if let Some(seconds) = options.seconds {
        let first = options.seed.unwrap_or_else(fresh_seed);
        println!("fresh seeds from {first}");
        let mut seed = first;
        while began.elapsed() < Duration::from_secs(seconds) {
            let it = Run { seed, steps: STEPS_OF_A_SEED, ..Run::default() };
            if !tally.play(&it, options.show) {
                return ExitCode::FAILURE;
            }
            seed = seed.wrapping_add(1);
        }
        println!("{} seeds", seed.wrapping_sub(first));
    } else {
        let skipped = options.skip;
        let it = Run { seed: options.seed.unwrap_or(1), steps: options.steps, skipped, defect: None };
        if !tally.play(&it, options.show) {
            return ExitCode::FAILURE;
        }
    }
    tally.print(began.elapsed());
    ExitCode::SUCCESS
}

/// What runs have come to.
#[derive(Default)]
struct Tally {
    counts: BTreeMap<&'static str, u64>,
    /// Without keys, and with them.
    cycles: [u64; 2],
    taken: [Duration; 2],
    simulated_ns: u64,
    trace_hash: u64,
    table: BTreeMap<&'static str, [u64; PROMISES.len()]>,
}

impl Tally {
    /// Plays, and tells if a promise was broken. False then.
    fn play(&mut self, it: &Run, show: usize) -> bool {
        let began = Instant::now();
        match run(it) {
            Ok(outcome) => {
                let kind = usize::from(it.has_keys());
                self.cycles[kind] += it.steps - it.skipped.len() as u64;
                self.taken[kind] += began.elapsed();
                self.simulated_ns += outcome.simulated_ns;
                self.trace_hash = outcome.trace_hash;
                for (fault, looks) in outcome.table {
                    let row = self.table.entry(fault).or_default();
                    row.iter_mut().zip(looks).for_each(|(sum, looks)| *sum += looks);
                }
                for (what, count) in outcome.counts {
                    *self.counts.entry(what).or_default() += count;
                }
                true
            }
            Err(violation) => {
                tell(it, violation, show);
                false
            }
        }
    }

    fn print(&self, elapsed: Duration) {
        println!("| fault | how often | {} |", PROMISES.map(|(promise, _)| promise).join(" | "));
        println!("|---|{}", "---:|".repeat(1 + PROMISES.len()));
        for (fault, looks) in &self.table {
            let count = self.counts.get(fault).unwrap_or(&0);
            println!("| {fault} | {count} | {} |", looks.map(|looks| looks.to_string()).join(" | "));
        }
        let looks =
            PROMISES.map(|(_, counts)| counts.iter().filter_map(|it| self.counts.get(it)).sum::<u64>());
        println!("| in all | | {} |", looks.map(|looks| looks.to_string()).join(" | "));
        let cycles: u64 = self.cycles.iter().sum();
        println!(
            "{cycles} cycles of crash and restart in {:.1} s: {:.0} a second; {:.0} s of simulated time; last trace {:016x}",
            elapsed.as_secs_f64(),
            cycles as f64 / elapsed.as_secs_f64(),
            self.simulated_ns as f64 / 1e9,
            self.trace_hash
        );
        for ((cycles, taken), with) in self.cycles.iter().zip(&self.taken).zip(["without", "with"]) {
            if *cycles > 0 {
                println!(
                    "{with} keys: {cycles} cycles, {:.0} a second",
                    *cycles as f64 / taken.as_secs_f64()
                );
            }
        }
    }
}

/// Tells of a broken promise, after leaving out what has no part in it.
fn tell(it: &Run, violation: Violation, show: usize) {
    println!("{violation}");
    println!("npm run simulate -- --seed {} --steps {}", it.seed, it.steps);
    let (shorter, violation) = shorten(it, violation);
    let skip = show_skipped(&shorter.skipped);
    println!("shortened to {} cycles:", shorter.steps - shorter.skipped.len() as u64);
    println!("{violation}");
    let happenings = &violation.happenings;
    for happening in &happenings[happenings.len().saturating_sub(show)..] {
        println!("{happening}");
    }
    println!("npm run simulate -- --seed {} --steps {}{skip}", shorter.seed, shorter.steps);
}

/// As an option: `--skip 0-3,7`.
fn show_skipped(skipped: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for step in skipped {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *step => *last = *step,
            _ => ranges.push((*step, *step)),
        }
    }
    let show = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let shown: Vec<String> = ranges.iter().map(show).collect();
    if shown.is_empty() { String::new() } else { format!(" --skip {}", shown.join(",")) }
}

/// Leaves out cycles as long as a promise is broken all the same.
fn shorten(it: &Run, mut violation: Violation) -> (Run, Violation) {
    let mut shortest = Run { steps: violation.step + 1, ..it.clone() };
    let mut width = shortest.steps.div_ceil(2);
    while width > 0 {
        let mut first = 0;
        while first + 1 < shortest.steps {
            let mut candidate = shortest.clone();
            candidate.skipped.extend(first..(first + width).min(shortest.steps - 1));
            if candidate.skipped.len() > shortest.skipped.len() {
                let found = run(&candidate).err().filter(|found| found.promise == violation.promise);
                if let Some(found) = found {
                    violation = found;
                    candidate.steps = violation.step + 1;
                    candidate.skipped.retain(|step| *step < candidate.steps);
                    shortest = candidate;
                }
            }
            first += width;
        }
        width /= 2;
    }
    (shortest, violation)
}

fn find_defects(options: &Options) -> ExitCode {
    let mut are_found = true;
    for defect in &options.defects {
        let began = Instant::now();
        let mut seed = options.seed.unwrap_or(1);
        let mut cycles = 0;
        let found = loop {
            if began.elapsed() > FOUND_WITHIN {
                break None;
            }
            let it = Run { seed, steps: STEPS_OF_A_SEED, defect: Some(*defect), ..Run::default() };
            if it.has_keys() != defect.is_about_keys() {
                seed += 1;
                continue;
            }
            if let Err(violation) = run(&it) {
                cycles += violation.step + 1;
                break Some(violation);
            }
            cycles += STEPS_OF_A_SEED;
            seed += 1;
        };
        let seconds = began.elapsed().as_secs_f64();
        match found {
            Some(violation) => {
                println!(
                    "{}: found in {seconds:.2} s, {cycles} cycles, seed {seed}\n  {violation}",
                    defect.name()
                );
            }
            None => {
                are_found = false;
                println!("{}: NOT FOUND in {seconds:.0} s, {cycles} cycles", defect.name());
            }
        }
    }
    if are_found { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        seed: None,
        steps: 200,
        skip: BTreeSet::new(),
        seconds: None,
        defects: Vec::new(),
        show: SHOWN,
    };
    while let Some(arg) = args.next() {
        if arg == "--help" {
            return Ok(None);
        }
        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{arg}: {value:?} is no number"));
        match &*arg {
            "--seed" => options.seed = Some(number()?),
            "--show" => options.show = number()? as usize,
            "--steps" => options.steps = number()?,
            "--seconds" => options.seconds = Some(number()?),
            "--skip" => {
                let skipped = parse_skipped(&value);
                options.skip = skipped.ok_or_else(|| format!("{arg}: {value:?} is no list like 0-3,7"))?;
            }
            "--defect" if value == "all" => options.defects = Defect::ALL.to_vec(),
            "--defect" => {
                let defect = Defect::ALL.into_iter().find(|defect| defect.name() == value);
                options.defects.push(defect.ok_or_else(|| format!("there is no defect {value:?}"))?);
            }
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(Some(options))
}

fn parse_skipped(value: &str) -> Option<BTreeSet<u64>> {
    let mut skipped = BTreeSet::new();
    for range in value.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        skipped.extend(first.parse().ok()?..=last.parse::<u64>().ok()?);
    }
    Some(skipped)
}
