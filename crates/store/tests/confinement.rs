//! Nothing outside the root is read or changed, whatever the names, links and races.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};
use xferd_store::{FileAttributes, Options, Store, StoreError};
use xferd_wire::{ErrorCode, LinkTarget};

use self::common::{path, put_whole};

/// `root` and, beside it, `outside/secret`.
struct Scene {
    directory: tempfile::TempDir,
    store: Store,
}

fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("root")).unwrap();
    fs::create_dir_all(directory.path().join("outside")).unwrap();
    fs::write(directory.path().join("outside/secret"), "secret").unwrap();
    let store = Store::open(&directory.path().join("root"), Options::default()).unwrap();
    Scene { directory, store }
}

impl Scene {
    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn assert_outside_is_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(self.at("outside")).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read(self.at("outside/secret")).unwrap(), b"secret");
    }
}

fn attributes() -> FileAttributes {
    FileAttributes { mode: 0o644, ..FileAttributes::default() }
}

#[test]
fn every_operation_through_a_link_that_leads_out_is_refused() {
    let scene = scene();
    symlink("../outside", scene.at("root/out")).unwrap();
    symlink(scene.at("outside"), scene.at("root/absolute")).unwrap();
    fs::write(scene.at("root/mine"), "mine").unwrap();
    let store = &scene.store;
    for way in ["out", "absolute"] {
        let (inner, new) = (path(&format!("{way}/secret")), path(&format!("{way}/new")));
        let target = LinkTarget::parse("mine").unwrap();
        let outcomes: [(&str, Result<(), StoreError>); 14] = [
            ("stage", store.stage(&new, Some(1)).map(drop)),
            ("stage over", store.stage(&inner, None).map(drop)),
            ("stage below", store.stage(&path(&format!("{way}/d/new")), None).map(drop)),
            ("put", put_whole(store, &new, b"x", &attributes(), false)),
            ("open", store.open_source(&inner).map(drop)),
            ("stat", store.stat(&inner).map(drop)),
            ("list", store.list(&path(way), true).map(drop)),
            ("remove", store.remove(&inner, true)),
            ("rename from", store.rename(&inner, &path("stolen"))),
            ("rename to", store.rename(&path("mine"), &new)),
            ("make_dir", store.make_dir(&new, 0o755, false)),
            ("make_dir below", store.make_dir(&path(&format!("{way}/d/new")), 0o755, true)),
            ("symlink", store.symlink(&new, &target)),
            ("set_attributes", store.set_attributes(&inner, &attributes())),
        ];
        for (operation, outcome) in outcomes {
            let error = outcome.expect_err(operation);
            assert_eq!(error.code(), ErrorCode::OutsideRoot, "{operation} {way}: {error}");
        }
    }
    scene.assert_outside_is_untouched();
}

#[test]
fn a_link_at_the_path_itself_is_replaced_or_removed_and_what_it_points_to_stays() {
    let scene = scene();
    for name in ["put", "staged", "relinked", "removed", "tree"] {
        symlink("../outside/secret", scene.at("root").join(name)).unwrap();
    }
    let store = &scene.store;
    put_whole(store, &path("put"), b"new", &attributes(), false).unwrap();
    let staging = store.stage(&path("staged"), Some(0)).unwrap();
    store.commit(staging, 0, &attributes(), false).unwrap();
    store.symlink(&path("relinked"), &LinkTarget::parse("put").unwrap()).unwrap();
    store.remove(&path("removed"), false).unwrap();
    store.remove(&path("tree"), true).unwrap();
    assert_eq!(fs::read(scene.at("root/put")).unwrap(), b"new");
    assert_eq!(fs::read(scene.at("root/relinked")).unwrap(), b"new");
    scene.assert_outside_is_untouched();
}

#[test]
fn a_tree_is_removed_without_what_its_links_point_to() {
    let scene = scene();
    fs::create_dir_all(scene.at("root/tree/inner")).unwrap();
    symlink("../../../outside", scene.at("root/tree/inner/out")).unwrap();
    symlink(scene.at("outside"), scene.at("root/tree/absolute")).unwrap();
    scene.store.remove(&path("tree"), true).unwrap();
    assert!(!scene.at("root/tree").exists());
    scene.assert_outside_is_untouched();
}

#[test]
fn a_link_that_would_lead_out_is_not_made() {
    let scene = scene();
    let store = &scene.store;
    for (link, target) in [
        ("l", ".."),
        ("l", "../x"),
        ("l", "/etc/passwd"),
        ("l", "a/../../x"),
        ("a/l", "../../x"),
        ("a/b/l", "../../../root"),
        ("a/l", "./.././../root/x"),
    ] {
        let target = LinkTarget::parse(target).unwrap();
        let error = store.symlink(&path(link), &target).unwrap_err();
        assert_eq!(error.code(), ErrorCode::LinkEscapes, "{link} -> {target}");
        assert!(store.stat(&path(link)).is_err());
    }
    for (link, target) in
        [("l", "x"), ("a/l", "../x"), ("a/b/l", "../../x/../y"), ("a/b/m", "../.."), ("n", ".")]
    {
        let target = LinkTarget::parse(target).unwrap();
        store.symlink(&path(link), &target).unwrap_or_else(|error| panic!("{link} -> {target}: {error}"));
        assert_eq!(store.stat(&path(link)).unwrap().link_target, Some(target));
    }
}

#[test]
fn links_that_stay_inside_are_followed_on_the_way() {
    let scene = scene();
    let store = &scene.store;
    store.make_dir(&path("deep/er"), 0o755, true).unwrap();
    store.symlink(&path("short"), &LinkTarget::parse("deep/er").unwrap()).unwrap();
    put_whole(store, &path("short/file"), b"x", &attributes(), true).unwrap();
    assert_eq!(fs::read(scene.at("root/deep/er/file")).unwrap(), b"x");
    assert_eq!(store.open_source(&path("short/file")).unwrap().size(), 1);
}

#[test]
fn nothing_gets_out_while_a_directory_is_swapped_for_a_link() {
    let scene = scene();
    fs::create_dir_all(scene.at("root/d")).unwrap();
    fs::write(scene.at("root/d/secret"), "inside").unwrap();
    symlink("../outside", scene.at("root/trap")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let (d, trap) = (scene.at("root/d"), scene.at("root/trap"));
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &d, CWD, &trap, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let mut leaked = 0;
        for number in 0..1_000 {
            // Each may fail or not: only where it has its effect matters.
            let _ =
                put_whole(&scene.store, &path(&format!("d/new{}", number % 10)), b"x", &attributes(), false);
            let _ = scene.store.remove(&path(&format!("d/new{}", number % 7)), true);
            let mut bytes = Vec::new();
            let source = scene.store.open_source(&path("d/secret"));
            let _ = source.and_then(|source| source.read(0, source.size(), &mut bytes));
            leaked += usize::from(bytes == b"secret");
        }
        done.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
        assert_eq!(leaked, 0);
    });
    scene.assert_outside_is_untouched();
}

#[test]
fn a_directory_that_was_moved_out_meanwhile_takes_no_commit_with_it() {
    let scene = scene();
    let stage = || scene.store.stage(&path("d/file"), Some(0)).unwrap();
    let stagings = [stage(), stage()];
    fs::rename(scene.at("root/d"), scene.at("moved")).unwrap();
    // The first makes the directory anew, the second replaces what the first one left there.
    for staging in stagings {
        scene.store.commit(staging, 0, &attributes(), true).unwrap();
    }
    let names: Vec<_> = fs::read_dir(scene.at("root/d")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
    assert_eq!(fs::read_dir(scene.at("moved")).unwrap().count(), 0);
}
