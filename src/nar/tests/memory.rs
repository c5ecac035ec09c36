//! Memory does not grow with a NAR.

use super::*;
use std::fs::File;
use std::process::Command;

const SIZE: u64 = 300 << 20;
/// What a test process and zstd's window take; far below the file.
const LIMIT_KIB: u64 = 32 << 10;

/// In a process of its own, since the peak is the whole process's.
#[test]
#[cfg(target_os = "linux")]
fn a_large_file_takes_little_memory() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "nar::tests::memory::pack_and_verify_a_large_file"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    let peak = text.split("peak_kib=").nth(1).unwrap().split_whitespace().next().unwrap();
    let peak: u64 = peak.parse().unwrap();
    assert!(peak < LIMIT_KIB, "{peak} KiB");
}

#[test]
#[ignore = "started by the test above"]
fn pack_and_verify_a_large_file() {
    let dir = tempfile::tempdir().unwrap();
    let (root, stored) = (dir.path().join("root"), dir.path().join("stored"));
    fs::create_dir(&root).unwrap();
    File::create(root.join("sparse")).unwrap().set_len(SIZE).unwrap();
    let (packed, _) = pack(&root, packing(Compression::Zstd), File::create(&stored).unwrap()).unwrap();
    assert!(packed.nar_size > SIZE);
    assert_eq!(verify(File::open(&stored).unwrap(), Compression::Zstd, u64::MAX).unwrap(), packed);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak_kib={peak}");
}
