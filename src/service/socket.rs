//! The socket on which a post-build hook hands over what was built.
//!
//! One connection, one request: base names of store paths, a line each, then the end of what is
//! sent. The answer is `queued` and the number, once that is durable. A hook that hears nothing of the
//! kind queues by itself.

use super::lock::beside;
use crate::nix::StorePath;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// A build has a handful of outputs; a megabyte names some ten thousand.
const LONGEST: u64 = 1 << 20;
/// For a request to arrive: whoever is slower has the queue.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a hook asks for, and where the answer goes: whether the paths are safe now.
pub struct Asked {
    pub paths: Vec<StorePath>,
    pub answer: oneshot::Sender<bool>,
}

/// Where the service of `ledger` listens.
pub fn path(ledger: &Path) -> PathBuf {
    beside(ledger, ".socket")
}

/// Listens beside `ledger`, whose lock the caller holds: a socket that is there is nobody's.
pub fn listen(ledger: &Path) -> io::Result<UnixListener> {
    let path = path(ledger);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(&path)?,
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // The service's own user and root, whatever the umask says.
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes requests until nobody wants them any more.
pub async fn serve(listener: UnixListener, asked: mpsc::Sender<Asked>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let asked = asked.clone();
                tokio::spawn(async move {
                    // Whatever is wrong with it: the hook gets no answer, and queues by itself.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, asked)).await;
                });
            }
            // Out of descriptors, most likely: they come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        if asked.is_closed() {
            return;
        }
    }
}

async fn answer(mut stream: UnixStream, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    let mut text = String::new();
    (&mut stream).take(LONGEST).read_to_string(&mut text).await?;
    let paths: Result<Vec<StorePath>, _> = text.lines().map(StorePath::parse).collect();
    let Ok(paths) = paths else { return stream.write_all(b"refused: not store paths\n").await };
    let (count, (answer, answered)) = (paths.len(), oneshot::channel());
    if asked.send(Asked { paths, answer }).await.is_ok() && answered.await == Ok(true) {
        stream.write_all(format!("queued {count}\n").as_bytes()).await?;
    }
    Ok(())
}
