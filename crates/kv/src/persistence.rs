//! A keyspace that is still there after a crash: loaded when it is opened, recorded from then on, and written anew now and then.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use xferd_os::{File, FileExt, clock, scaled, seeded};

use crate::keyspace::{Keyspace, Limits, STRIPES};
use crate::log::{
    BASE, Base, Directory, Fsync, INCREMENT, Listed, Loading, Log, LogError, Manifest, Replay, TornTail,
    load_all, lock,
};
use crate::refused::Refused;

/// Bytes that are written once more at a time.
const AGAIN_BYTES: u64 = scaled(1 << 20);
/// How often everything is synced for [`Fsync::EverySecond`].
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Stripes that are saved in one [`Persistence::tick`].
const STRIPES_PER_TICK: usize = STRIPES.div_ceil(64);

/// How a keyspace is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the keyspace may take.
    pub limits: Limits,
    /// When what was recorded is brought to the disk.
    pub fsync: Fsync,
    /// The log is written anew when its increments have so many bytes, as `auto-aof-rewrite-min-size` of Redis.
    pub rewrite_min_bytes: u64,
    /// And so many percent of its base, as `auto-aof-rewrite-percentage`; 0 for never.
    pub rewrite_percentage: u64,
    /// How far it was loaded, to be looked at meanwhile.
    pub loading: Arc<Loading>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            fsync: Fsync::default(),
            rewrite_min_bytes: scaled(64 << 20),
            rewrite_percentage: 100,
            loading: Arc::default(),
        }
    }
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes of all files.
    pub bytes: u64,
    /// Requests that were carried out.
    pub requests: u64,
    /// What was cut off.
    pub torn: Option<TornTail>,
}

/// The log of a keyspace and the directory that it is in, which nobody else uses meanwhile.
///
/// Somebody calls [`Persistence::tick`] again and again, or two do.
#[derive(Debug)]
pub struct Persistence {
    keyspace: Arc<Keyspace>,
    log: Arc<Log>,
    directory: Directory,
    rewrite_min_bytes: AtomicU64,
    rewrite_percentage: AtomicU64,
    is_rewriting: AtomicBool,
    saved_s: AtomicU64,
    /// When everything was synced last.
    synced: Mutex<Instant>,
    work: Mutex<Work>,
}

/// What is under way.
#[derive(Debug)]
struct Work {
    manifest: Manifest,
    base_len: u64,
    /// The next stripe to be saved, if a snapshot is being written, and bytes of the increments that it makes needless.
    walk: Option<(usize, u64)>,
    /// Bytes of increments when a snapshot last failed.
    failed_at: u64,
    /// The numbers of the next base and the next increment. None is ever used twice: after a failure nobody knows which of two
    /// manifests is on the disk.
    numbers: (u64, u64),
    /// How many snapshots have ended, and how the last did.
    ended: (u64, Result<(), String>),
}

impl Persistence {
    /// Loads what is in the directory `path`, which is made if it is not there, and records all that changes from then on.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(path: &Path, options: &Options) -> Result<(Self, Report), LogError> {
        let directory = Directory::open(path)?;
        let found = directory.manifest()?;
        let mut manifest = found.clone().unwrap_or_default();
        let mut keyspace = Keyspace::new(options.limits);
        let shown = |name: &str| directory.shown(name);
        let mut replay = Replay::new(&keyspace);
        let (report, noted) = load_all(directory.dir(), &shown, &manifest, &mut replay, &options.loading)?;
        keyspace.not_before(noted.newest_s.saturating_mul(1000));
        // All that was loaded is to be on the disk before anything is written behind it.
        let mut sizes = Vec::new();
        for Listed { name, .. } in &manifest.increments {
            let file = directory.dir().open_file_for_writing(name).map_err(directory.io(name))?;
            if let Some(torn) = report.torn.as_ref().filter(|torn| torn.file == directory.shown(name)) {
                let TornTail { offset, bytes, .. } = *torn;
                tracing::warn!(file = torn.file, offset, bytes, "the end of the log is torn: it is cut off");
                file.set_len(offset).map_err(directory.io(name))?;
            }
            let size = xferd_os::file::attributes(&file).map_err(directory.io(name))?.size;
            sizes.push((file, size));
        }
        // A sync that failed for whoever wrote it would not fail again, and what it lost would still be missing (fsync(2)): what is
        // not known to be on the disk is written once more.
        let last = sizes.iter().rfind(|(_, size)| *size > 0 && !seeded!(TailBelieved));
        if let Some((file, size)) = last {
            write_again(file, noted.synced.unwrap_or(*size), *size)
                .map_err(directory.io("the last increment"))?;
        }
        sizes.iter().try_for_each(|(file, _)| file.sync_all()).map_err(directory.io("an increment"))?;
        let size = sizes.iter().map(|(_, size)| size).sum();
        let (file, len) = match sizes.pop() {
            Some(last) => last,
            None => {
                let (number, empty) = (manifest.next(INCREMENT), 0);
                let (name, file) = directory.create_increment(number)?;
                manifest.increments.push(Listed { name, number });
                directory.set_manifest(&manifest)?;
                (file, empty)
            }
        };
        directory.dir().sync().map_err(directory.io(""))?;
        directory.sweep(&manifest)?;
        let numbers = (manifest.next(BASE), manifest.next(INCREMENT));
        let log = Arc::new(Log::new(file, len, size, options.fsync, keyspace.clock()));
        let keyspace = Arc::new(keyspace);
        keyspace.record(log.clone());
        let persistence = Self {
            rewrite_min_bytes: AtomicU64::new(options.rewrite_min_bytes),
            rewrite_percentage: AtomicU64::new(options.rewrite_percentage),
            is_rewriting: AtomicBool::new(false),
            saved_s: AtomicU64::new(keyspace.now_ms() / 1000),
            synced: Mutex::new(clock::now()),
            work: Mutex::new(Work {
                manifest,
                base_len: report.bytes.saturating_sub(size),
                walk: None,
                failed_at: 0,
                numbers,
                ended: (0, Ok(())),
            }),
            keyspace,
            log,
            directory,
        };
        Ok((persistence, report))
    }

    /// What was loaded and is recorded.
    pub fn keyspace(&self) -> &Arc<Keyspace> {
        &self.keyspace
    }

    /// What records it.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// When the log is written anew by itself, as in [`Options`].
    pub fn set_rewrite(&self, min_bytes: u64, percentage: u64) {
        self.rewrite_min_bytes.store(min_bytes, Ordering::Relaxed);
        self.rewrite_percentage.store(percentage, Ordering::Relaxed);
    }

    /// Seconds since 1970 when a snapshot last succeeded, or when this was opened.
    pub fn saved_s(&self) -> u64 {
        self.saved_s.load(Ordering::Relaxed)
    }

    /// Whether the log is being written anew.
    pub fn is_rewriting(&self) -> bool {
        self.is_rewriting.load(Ordering::Relaxed)
    }

    /// How the snapshot that ended last did.
    ///
    /// # Errors
    /// Why it did not succeed.
    pub fn last_rewrite(&self) -> Result<(), String> {
        lock(&self.work).ended.1.clone()
    }

    /// Does what is due: a sync, a part of a snapshot. Whether there is more to be done at once.
    pub fn tick(&self) -> bool {
        let sync_is_due = {
            let (mut synced, now) = (lock(&self.synced), clock::now());
            let is_due = now.saturating_duration_since(*synced) >= SYNC_EVERY;
            if is_due {
                *synced = now;
            }
            is_due
        };
        if sync_is_due && self.log.fsync() == Fsync::EverySecond && !seeded!(SecondSlept) {
            // That it failed is told to who commits.
            let _ = self.log.sync();
        }
        // Two threads that do so sync in time however long a snapshot takes.
        let Ok(mut work) = self.work.try_lock() else { return false };
        if work.walk.is_none() && self.is_due(&work) {
            self.begin(&mut work);
        }
        if work.walk.is_some() {
            self.go_on(&mut work);
        }
        work.walk.is_some()
    }

    /// Begins to write the log anew, which [`Persistence::tick`] goes on with.
    ///
    /// # Errors
    /// As Redis says it, if that is under way already, or cannot be begun.
    pub fn rewrite(&self) -> Result<(), Refused> {
        let mut work = lock(&self.work);
        if work.walk.is_some() {
            return Err(Refused::Other("ERR Background append only file rewriting already in progress"));
        }
        self.begin(&mut work);
        match &work.ended.1 {
            Err(what) if work.walk.is_none() => Err(Refused::Told(format!("ERR {what}"))),
            _ => Ok(()),
        }
    }

    /// Writes the log anew, and returns when that is done.
    ///
    /// # Errors
    /// As Redis says it, if that is under way already; why it did not succeed.
    pub fn save(&self) -> Result<(), Refused> {
        self.rewrite()?;
        let mine = lock(&self.work).ended.0;
        loop {
            let mut work = lock(&self.work);
            if work.ended.0 != mine || work.walk.is_none() {
                return work.ended.1.clone().map_err(|what| Refused::Told(format!("ERR {what}")));
            }
            self.go_on(&mut work);
        }
    }

    /// Brings everything to the disk and leaves the directory to others. Nothing can be changed any more. A snapshot that is under way
    /// is given up.
    ///
    /// # Errors
    /// That of the write or sync that failed.
    pub fn close(&self) -> std::io::Result<()> {
        let Some(_lock) = self.directory.take_lock() else { return Ok(()) };
        let mut work = lock(&self.work);
        if work.walk.take().is_some() {
            self.keyspace.end_snapshot();
            self.is_rewriting.store(false, Ordering::Relaxed);
        }
        self.log.close()
    }

    fn is_due(&self, work: &Work) -> bool {
        let percentage = self.rewrite_percentage.load(Ordering::Relaxed);
        let min_bytes = self.rewrite_min_bytes.load(Ordering::Relaxed);
        let size = self.log.size();
        percentage > 0
            && size >= min_bytes
            && u128::from(size) * 100 >= u128::from(work.base_len) * u128::from(percentage)
            // What has just failed would fail again.
            && (work.failed_at == 0 || size >= work.failed_at.saturating_add(min_bytes.max(1)))
            && self.log.failure().is_none()
    }

    /// Begins a snapshot. From the instant on that it shows, what changes is recorded in a new increment.
    fn begin(&self, work: &mut Work) {
        let begun = (|| {
            let base = self.directory.create_base()?;
            let number = work.numbers.1;
            work.numbers.1 += 1;
            let (name, file) = self.directory.create_increment(number)?;
            let mut manifest = work.manifest.clone();
            manifest.increments.push(Listed { name: name.clone(), number });
            // Whoever starts after a crash has to know of the increment before anything is in it.
            self.directory.set_manifest(&manifest)?;
            work.manifest = manifest;
            // What remains to be written while every stripe is locked is little then.
            self.log.sync().map_err(self.directory.io(&name))?;
            let mut needless = 0;
            let now_s = self.keyspace.now_ms() / 1000;
            let cut = self.keyspace.begin_snapshot(Base::new(base, now_s), || {
                self.log.go_on_in(file)?;
                needless = self.log.size();
                Ok(())
            });
            cut.map_err(self.directory.io(&name))?;
            Ok(needless)
        })();
        match begun {
            Ok(needless) => {
                work.walk = Some((0, needless));
                self.is_rewriting.store(true, Ordering::Relaxed);
            }
            Err(error) => self.end(work, Err(error)),
        }
    }

    /// Saves some stripes, and when there are none left, has the log be what was saved and what has changed since.
    fn go_on(&self, work: &mut Work) {
        let Some((next, needless)) = work.walk else { return };
        let until = (next + STRIPES_PER_TICK).min(STRIPES);
        let goes_on = (next..until).all(|index| self.keyspace.save_stripe(index));
        work.walk = Some((until, needless));
        if goes_on && (until < STRIPES || self.keyspace.save_deferred()) {
            return;
        }
        let ended = self.switch(work, needless);
        self.end(work, ended);
    }

    fn switch(&self, work: &mut Work, needless: u64) -> Result<(), LogError> {
        let Some(base) = self.keyspace.end_snapshot() else { return Ok(()) };
        let base_len = base.finish().map_err(self.directory.io("the new base"))?;
        let number = work.numbers.0;
        work.numbers.0 += 1;
        let name = self.directory.name_base(number)?;
        let increment = work.manifest.increments.last().cloned();
        let manifest =
            Manifest { base: Some(Listed { name, number }), increments: increment.into_iter().collect() };
        self.directory.set_manifest(&manifest)?;
        work.manifest = manifest;
        work.base_len = base_len;
        self.log.forget(needless);
        self.directory.sweep(&work.manifest)
    }

    fn end(&self, work: &mut Work, ended: Result<(), LogError>) {
        work.walk = None;
        self.keyspace.end_snapshot();
        self.is_rewriting.store(false, Ordering::Relaxed);
        work.failed_at = if ended.is_ok() { 0 } else { self.log.size().max(1) };
        match &ended {
            Ok(()) => self.saved_s.store(self.keyspace.now_ms() / 1000, Ordering::Relaxed),
            Err(error) => tracing::error!(%error, "the log could not be written anew; it goes on as it is"),
        }
        work.ended = (work.ended.0 + 1, ended.map_err(|error| error.to_string()));
    }
}

/// Writes `[from, to)` of a file in its place.
fn write_again(file: &File, mut from: u64, to: u64) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while from < to {
        let len = (to - from).min(AGAIN_BYTES);
        bytes.clear();
        xferd_os::file::append(file, from, len as usize, &mut bytes)?;
        file.write_all_at(&bytes, from)?;
        from += len;
    }
    Ok(())
}
