//! A disk that is full: the job ends with a clear error, and nothing half-written is visible.

use crate::under_test;
use quorate_protocol::query::{JobFailure, JobState};
use quorate_tests::{Processes, oracle::only_guilty, reference::made_up_text};
use std::process::{Command, Stdio};

/// Fills the file system of a folder with one file, which is removed at the end.
struct Filled(std::path::PathBuf);

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A small file system of its own, where this test may mount one.
pub(crate) struct SmallDisk(pub(crate) std::path::PathBuf);

impl SmallDisk {
    pub(crate) fn mount(at: &std::path::Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if mounted {
            return Some(Self(at.to_owned()));
        }
        assert!(std::env::var_os("CI").is_none(), "on CI a file system can be mounted");
        eprintln!("skipped: only root may mount a file system");
        None
    }
}

impl SmallDisk {
    /// Nothing can be written any more. Nobody may have a file open to write.
    pub(crate) fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "whoever mounted it may mount it again");
    }
}

/// A file system that can become read-only while files are open, as one does whose disk fails.
pub(crate) struct FragileDisk(std::path::PathBuf);

impl FragileDisk {
    /// `None`, with the reason, where there are no loop devices, no ext4, or no rights.
    pub(crate) fn mount(folder: &std::path::Path, at: &std::path::Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let image = folder.join("fragile.img");
        std::fs::File::create(&image).and_then(|file| file.set_len(256 << 20)).expect("a file");
        let done = |command: &mut Command| command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        let made = done(Command::new("mkfs.ext4").arg("-q").arg(&image))
            && done(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(&image).arg(at));
        if !made {
            eprintln!("skipped: no file system on a loop device can be mounted here");
            return None;
        }
        let disk = Self(at.to_owned());
        if disk.switch().is_none() {
            eprintln!("skipped: this kernel has no way to make a mounted file system fail");
            return None;
        }
        Some(disk)
    }

    /// Where the kernel takes the wish for an error.
    fn switch(&self) -> Option<std::path::PathBuf> {
        let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == self.0.to_str())?;
        let device = line.split(' ').next()?.strip_prefix("/dev/")?;
        let switch = std::path::Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        switch.exists().then_some(switch)
    }

    /// Lets the file system find an error, after which it is read-only.
    pub(crate) fn break_down(&self) {
        std::fs::write(self.switch().expect("it was there"), "1").expect("only root mounts");
    }
}

impl Drop for FragileDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disks_decline_tasks_and_the_job_says_why() {
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    let text = made_up_text(4 << 20);
    cluster.put(&text, "/in/text").await;
    // The trackers' scratch space becomes a small disk that is full; their chunks stay where they are.
    let mut disks = Vec::new();
    for tracker in ["tracker-0", "tracker-1", "tracker-2"] {
        cluster.kill(tracker);
        let Some(disk) = SmallDisk::mount(&cluster.folder().join(tracker).join("jobs"), "24m") else { return };
        cluster.start_member(tracker);
        disks.push(disk);
    }
    cluster.all_live().await;
    let fillers: Vec<Filled> = disks
        .iter()
        .map(|disk| {
            let filler = disk.0.join("filler");
            let file = std::fs::File::create(&filler).expect("a file");
            // Written until the disk takes no more.
            let full = std::io::copy(&mut std::io::repeat(0), &mut &file).expect_err("the disk fills up");
            assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
            Filled(filler)
        })
        .collect();
    let job = cluster.submit_wordcount(&["--split", "4MiB"]).await;
    let view = cluster.ended(job).await;
    let JobState::Failed(JobFailure::NotRunnable { reason, .. }) = &view.summary.state else {
        panic!("{}", quorate::report::job(&view))
    };
    assert!(reason.contains("No space left") || reason.contains("full"), "{reason}");
    only_guilty(cluster.client(), &[]).await;
    let parts = cluster.client().files(&quorate_protocol::file::Path::parse("/out").expect("a path")).await;
    assert!(parts.is_err(), "nothing half-written is visible");

    drop(fillers);
    let job = cluster.submit_wordcount(&["--split", "4MiB"]).await;
    quorate_tests::oracle::succeeded(&cluster.ended(job).await);
    // Open files stay open, and the cluster's folder can be removed.
    drop(disks);
    cluster.stop().await;
}
