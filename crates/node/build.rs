//! Links the addon as Node expects it.

fn main() {
    napi_build::setup();
    // Node unloads an addon with the last of the threads that loaded it, which may be a worker. All our threads have ended
    // by then; one that slipped through would take the process with it, and to stay loaded costs nothing.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
