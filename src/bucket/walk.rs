//! Listings page by page, in several pieces side by side where there is much to list.

use super::{Bucket, BucketError, Cause, Key, ObjectInfo, Prefix};
use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

/// Listings at once.
const PARALLEL: usize = 32;

/// Pages of a listing as they come, in no order.
pub type Pages<'a> = BoxStream<'a, Result<Vec<ObjectInfo>, BucketError>>;

/// Every object of the bucket beside folders: all narinfos, and what else lies there.
pub fn nar_info_pages(bucket: &dyn Bucket) -> Pages<'_> {
    let whole = Piece { skips_folders: true, ..Piece::of(Prefix::all()) };
    let shards = Prefix::nar_info_shards().map(|shard| Piece { skips_folders: true, ..Piece::of(shard) });
    pages(bucket, whole, shards.collect())
}

/// Every NAR of the bucket.
pub fn nar_pages(bucket: &dyn Bucket) -> Pages<'_> {
    let cuts: Vec<String> = Prefix::nar_cuts().collect();
    let starts = std::iter::once(None).chain(cuts.iter().cloned().map(Some));
    let ends = cuts.iter().cloned().map(Some).chain(std::iter::once(None));
    let pieces = starts.zip(ends).map(|(after, to)| Piece { after, to, ..Piece::of(Prefix::nars()) });
    pages(bucket, Piece::of(Prefix::nars()), pieces.collect())
}

/// A piece of the bucket: keys that start with `prefix`, after one text and up to another.
#[derive(Debug, Clone)]
pub struct Piece {
    pub prefix: Prefix,
    pub after: Option<String>,
    pub to: Option<String>,
    /// Goes past folders: narinfos stand beside them, never inside.
    pub skips_folders: bool,
}

impl Piece {
    pub fn of(prefix: Prefix) -> Self {
        Self { prefix, after: None, to: None, skips_folders: false }
    }
}

/// The pages of one piece.
pub struct Walk<'a> {
    bucket: &'a dyn Bucket,
    piece: Piece,
    reached: Option<String>,
    is_over: bool,
}

impl<'a> Walk<'a> {
    pub fn new(bucket: &'a dyn Bucket, piece: Piece) -> Self {
        let reached = piece.after.clone();
        Self { bucket, piece, reached, is_over: false }
    }

    /// The next page's objects; `None` after the last page.
    pub async fn next(&mut self) -> Result<Option<Vec<ObjectInfo>>, BucketError> {
        if self.is_over {
            return Ok(None);
        }
        let mut page = self.bucket.list(&self.piece.prefix, self.reached.as_deref()).await?;
        let next = page.next.map(|last| match Key::listed(last.as_str()).past_folder() {
            Some(past) if self.piece.skips_folders => past.as_str().to_owned(),
            _ => last,
        });
        if let Some(to) = &self.piece.to {
            page.objects.retain(|object| object.key.as_str() <= to.as_str());
        }
        match next {
            Some(next) if self.piece.to.as_ref().is_none_or(|to| next < *to) => {
                // A listing that does not advance would hold us for ever.
                if self.reached.as_ref().is_some_and(|reached| next <= *reached) {
                    let cause = Cause::Garbled("the listing does not advance".to_owned());
                    let prefix = format!("{:?}", self.piece.prefix.as_str());
                    return Err(BucketError::new("list", prefix, self.bucket.describe(), cause));
                }
                self.reached = Some(next);
            }
            _ => self.is_over = true,
        }
        Ok(Some(page.objects))
    }
}

/// All objects of `whole`: in one request where that is enough, otherwise `pieces` side by side.
fn pages(bucket: &dyn Bucket, whole: Piece, pieces: Vec<Piece>) -> Pages<'_> {
    let first = async move {
        let mut walk = Walk::new(bucket, whole);
        let first = walk.next().await?.unwrap_or_default();
        let all: Pages<'_> = match walk.is_over {
            true => stream::once(ready(Ok(first))).boxed(),
            false => stream::iter(pieces).map(|piece| walk_on(bucket, piece)).flatten_unordered(PARALLEL).boxed(),
        };
        Ok::<_, BucketError>(all)
    };
    stream::once(first).try_flatten().boxed()
}

fn walk_on(bucket: &dyn Bucket, piece: Piece) -> Pages<'_> {
    stream::try_unfold(Walk::new(bucket, piece), |mut walk| async move {
        Ok(walk.next().await?.map(|objects| (objects, walk)))
    })
    .boxed()
}
