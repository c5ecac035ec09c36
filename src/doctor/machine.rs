//! What this machine has to offer: room on disks, memory, descriptors, credentials of systemd.

use super::Patient;
use super::finding::{Check, Code, Notes};
use super::ledger::existing;
use crate::bucket::Target;
use crate::config::Loaded;
use rustix::fs::{Access, access};
use rustix::process::{Resource, getrlimit};
use std::io;
use std::path::Path;

/// With less than this, not even the ledger can be kept.
const FULL: u64 = 64 << 20;
const LOW: u64 = 512 << 20;

/// Besides two for each upload (a connection and a file): ledger, store, sockets, libraries.
const OWN_DESCRIPTORS: u64 = 48;

/// Room that is free for this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub bytes: u64,
    /// `None` where the file system does not count.
    pub files: Option<u64>,
}

/// A machine; tests bring their own.
pub trait Machine: Send + Sync {
    fn space(&self, at: &Path) -> io::Result<Space>;
    /// All that a process may use, in bytes.
    fn memory(&self) -> Option<u64>;
    /// How many files may be open at once.
    fn descriptors(&self) -> Option<u64>;
    /// Whether this user may make files in a directory.
    fn may_write(&self, directory: &Path) -> bool;
}

/// The one that this runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn space(&self, at: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(at)?;
        let files = (found.f_files > 0).then_some(found.f_favail);
        Ok(Space { bytes: found.f_bavail.saturating_mul(found.f_frsize), files })
    }

    fn memory(&self) -> Option<u64> {
        let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        });
        total.into_iter().chain(of_control_group()).min()
    }

    fn descriptors(&self) -> Option<u64> {
        getrlimit(Resource::Nofile).current
    }

    fn may_write(&self, directory: &Path) -> bool {
        access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    }
}

/// A service's or container's own limit.
fn of_control_group() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = Path::new("/sys/fs/cgroup").join(own);
    let limits = folder.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    limits.filter_map(|folder| std::fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok()).min()
}

pub fn look(patient: &Patient, loaded: &Loaded, notes: &mut Notes) {
    disks(patient, loaded, notes);
    memory(patient, loaded, notes);
    descriptors(patient, loaded, notes);
    secrets(patient, notes);
}

fn disks(patient: &Patient, loaded: &Loaded, notes: &mut Notes) {
    let mut places = vec![("the ledger", existing(&loaded.settings.ledger))];
    if let Some(Target::Directory(root)) = &loaded.settings.bucket {
        places.push(("the cache", existing(&root.join("x"))));
    }
    let mut fine = Vec::new();
    for (what, place) in places {
        let shown = place.display();
        let space = match patient.machine.space(&place) {
            Ok(space) => space,
            Err(error) => {
                notes.without(Check::Disk, &format!("the disk of {shown} cannot be asked: {error}"));
                continue;
            }
        };
        let size = amount(space.bytes);
        match space {
            Space { files: Some(0), .. } => {
                let says = format!("the disk of {what} ({shown}) can hold no more files");
                notes.fault(Code::DiskFull, says, "remove files there; df -i tells which disk has run out of them");
            }
            Space { bytes, .. } if bytes < FULL => {
                let says = format!("the disk of {what} ({shown}) is full: {size} are free");
                notes.fault(Code::DiskFull, says, "make room there, or choose another place");
            }
            Space { bytes, .. } if bytes < LOW => {
                let says = format!("the disk of {what} ({shown}) is nearly full: {size} are free");
                notes.fault(Code::DiskLow, says, "make room there before it is");
            }
            Space { .. } => fine.push(format!("{size} free for {what}")),
        }
    }
    if !fine.is_empty() {
        notes.fine(Check::Disk, fine.join(", "));
    }
}

/// With what says most, rounded down.
fn amount(bytes: u64) -> String {
    match bytes >> 20 {
        many if many >= 10 << 10 => format!("{} GiB", many >> 10),
        few => format!("{few} MiB"),
    }
}

fn memory(patient: &Patient, loaded: &Loaded, notes: &mut Notes) {
    let Some(has) = patient.machine.memory() else {
        return notes.without(Check::Memory, "this machine does not tell how much it has");
    };
    let limit = loaded.settings.push.memory_limit;
    let says = format!("memory_limit is {}, and there are {}", amount(limit), amount(has));
    let way_out = "lower memory_limit in [loft]; 64MiB are enough for a fast network";
    match limit {
        limit if limit >= has => notes.fault(Code::MemoryTooLittle, says, way_out),
        limit if limit > has / 2 => notes.fault(Code::MemoryTight, says, way_out),
        _ => notes.fine(Check::Memory, says),
    }
}

fn descriptors(patient: &Patient, loaded: &Loaded, notes: &mut Notes) {
    let Some(may) = patient.machine.descriptors() else {
        return notes.fine(Check::Descriptors, "as many as wanted");
    };
    let threads = loaded.settings.push.upload_threads as u64;
    let needs = threads.saturating_mul(2).saturating_add(OWN_DESCRIPTORS);
    let says = format!("{may} files may be open at once, and upload_threads = {threads} needs up to {needs}");
    match may < needs {
        true => notes.fault(
            Code::DescriptorsTooFew,
            says,
            "raise the limit (ulimit -n, LimitNOFILE= of the unit), or lower upload_threads",
        ),
        false => notes.fine(Check::Descriptors, says),
    }
}

/// Names that loft takes, or their beginnings.
const KNOWN: [&str; 5] =
    ["loft.access-key", "loft.secret-key", "loft.extra-headers", "loft.signing-key", "loft.extra-header."];

fn secrets(patient: &Patient, notes: &mut Notes) {
    const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
    let Some(folder) = patient.sources.environment.get(VARIABLE).filter(|folder| !folder.is_empty()) else {
        return notes.without(Check::Secrets, "systemd gives none to this process");
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let says = format!("{folder}, which {VARIABLE} names, cannot be read: {error}");
            return notes.fault(Code::SecretsUnreadable, says, "run as the service's user, or unset the variable");
        }
    };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("loft."));
    names.sort();
    let is_known = |name: &str| {
        KNOWN.iter().any(|known| *known == name || (known.ends_with('.') && name.starts_with(known)))
            || name.starts_with("loft.signing-key.")
    };
    let unknown: Vec<&str> = names.iter().map(String::as_str).filter(|name| !is_known(name)).collect();
    if !unknown.is_empty() {
        let says = format!("systemd's credentials {} mean nothing to loft", unknown.join(", "));
        let way_out = "their names are loft.access-key, loft.secret-key, loft.signing-key, loft.extra-headers";
        return notes.fault(Code::SecretUnknown, says, way_out);
    }
    notes.fine(Check::Secrets, if names.is_empty() { "none is loft's".to_owned() } else { names.join(", ") });
}
