//! INFO: the server in numbers.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use xferd_kv::Stats;
use xferd_os::clock;
use xferd_wire::resp::Args;

use super::Kv;
use super::connection::REDIS_VERSION;
use xferd_kv::commands::is_word;

/// A section, whether it is told without being asked for, and what tells it.
type Section = (&'static str, bool, fn(&Kv, &Stats) -> String);

const SECTIONS: [Section; 8] = [
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Commandstats", false, command_stats),
    ("Latencystats", false, latency_stats),
    ("Keyspace", true, keyspace),
];

/// The sections that are asked for; those that most want if none is.
pub(super) fn info(kv: &Kv, stats: &Stats, wanted: Args<'_>) -> String {
    let names = |word: &str| wanted.iter().any(|name| is_word(name, word));
    let everything = names("all") || names("everything");
    let usual = wanted.is_empty() || names("default");
    let told =
        SECTIONS.iter().filter(|(name, is_usual, _)| everything || (usual && *is_usual) || names(name));
    let sections: Vec<String> =
        told.map(|(name, _, tell)| format!("# {name}\r\n{}", tell(kv, stats))).collect();
    sections.join("\r\n")
}

/// Lines of names and values.
macro_rules! lines {
    ($($name:literal: $value:expr,)*) => {{
        let mut text = String::new();
        // Writing into a string does not fail.
        $(let _ = write!(text, concat!($name, ":{}\r\n"), $value);)*
        text
    }};
}

fn server(kv: &Kv, _: &Stats) -> String {
    let uptime = clock::now().saturating_duration_since(kv.started).as_secs();
    lines! {
        "redis_version": REDIS_VERSION,
        "xferd_version": env!("CARGO_PKG_VERSION"),
        "redis_mode": "standalone",
        "os": std::env::consts::OS,
        "arch_bits": usize::BITS,
        "process_id": std::process::id(),
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime / 86_400,
    }
}

fn clients(kv: &Kv, _: &Stats) -> String {
    lines! {
        "connected_clients": kv.clients.len(),
        "maxclients": kv.connections_max,
        "blocked_clients": 0,
        "pubsub_channels": kv.channels.channels(),
        "pubsub_patterns": kv.channels.patterns(),
    }
}

fn memory(kv: &Kv, stats: &Stats) -> String {
    let limits = kv.keyspace.limits();
    lines! {
        "used_memory": stats.memory,
        "used_memory_human": human(stats.memory),
        "used_memory_dataset": stats.memory,
        "pending_requests_memory": kv.pending_bytes.load(Ordering::Relaxed),
        "maxmemory": limits.memory_max.unwrap_or(0),
        "maxmemory_human": human(limits.memory_max.unwrap_or(0)),
        "maxmemory_policy": limits.policy.name(),
    }
}

fn persistence(kv: &Kv, _: &Stats) -> String {
    let kept = kv.persistence.as_ref();
    let status = |is_ok: bool| if is_ok { "ok" } else { "err" };
    lines! {
        "loading": 0,
        "rdb_last_save_time": kv.saved_s(),
        "aof_enabled": u8::from(kept.is_some()),
        "aof_rewrite_in_progress": u8::from(kept.is_some_and(|kept| kept.is_rewriting())),
        "aof_last_bgrewrite_status": status(kept.is_none_or(|kept| kept.last_rewrite().is_ok())),
        "aof_last_write_status": status(kept.is_none_or(|kept| kept.log().failure().is_none())),
    }
}

fn stats(kv: &Kv, stats: &Stats) -> String {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (bytes_in, bytes_out) = kv.metrics.bytes();
    let commands: u64 = kv.metrics.by_command().iter().map(|command| command.calls).sum();
    lines! {
        "total_connections_received": read(&kv.metrics.connections),
        "total_commands_processed": commands,
        "total_net_input_bytes": bytes_in,
        "total_net_output_bytes": bytes_out,
        "rejected_connections": read(&kv.metrics.refused),
        "expired_keys": stats.expired,
        "evicted_keys": stats.evicted,
        "keyspace_hits": stats.hits,
        "keyspace_misses": stats.misses,
        "total_error_replies": read(&kv.metrics.errors),
    }
}

fn command_stats(kv: &Kv, _: &Stats) -> String {
    let mut text = String::new();
    for command in kv.metrics.by_command() {
        let usec = command.took.as_micros();
        let each = command.took.as_secs_f64() * 1e6 / command.calls.max(1) as f64;
        let _ = write!(
            text,
            "cmdstat_{}:calls={},usec={usec},usec_per_call={each:.2},rejected_calls=0,failed_calls={}\r\n",
            command.name, command.calls, command.failed
        );
    }
    text
}

fn latency_stats(kv: &Kv, _: &Stats) -> String {
    let mut text = String::new();
    for command in kv.metrics.by_command() {
        let [p50, p99, p999] = command.percentiles.map(|took| took.as_secs_f64() * 1e6);
        let _ = write!(
            text,
            "latency_percentiles_usec_{}:p50={p50:.3},p99={p99:.3},p99.9={p999:.3}\r\n",
            command.name
        );
    }
    text
}

fn keyspace(_: &Kv, stats: &Stats) -> String {
    let mut text = String::new();
    for (database, keys) in stats.keys.iter().enumerate().filter(|(_, keys)| **keys > 0) {
        let expires = stats.expires.get(database).copied().unwrap_or_default();
        let _ = write!(text, "db{database}:keys={keys},expires={expires},avg_ttl=0\r\n");
    }
    text
}

/// As Redis writes bytes for people, in powers of 1024.
fn human(bytes: u64) -> String {
    let units = ["B", "K", "M", "G", "T"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < units.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    match unit {
        0 => format!("{bytes}B"),
        _ => format!("{size:.2}{}", units[unit]),
    }
}
