//! `npm run simulate`: plays worlds until one breaks a promise.

#[cfg(xferd_sim)]
mod command;

#[cfg(xferd_sim)]
fn main() -> std::process::ExitCode {
    command::main()
}

#[cfg(not(xferd_sim))]
fn main() -> std::process::ExitCode {
    eprintln!("the simulator is in builds with --cfg xferd_sim only; run it by `npm run simulate`");
    std::process::ExitCode::from(2)
}
