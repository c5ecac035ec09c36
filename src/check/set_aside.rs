//! Objects of loft's own that cannot be read: their bytes go into a trash record, and then they go.

use super::CheckError;
use super::repair::Mending;
use crate::bucket::{Body, CacheInfo, Headers, Key, Kind, ObjectInfo};
use crate::prune::CLOCK_TOLERANCE;
use crate::push::GIVE_UP_AFTER;
use crate::record::{
    BucketRecord, LeaseRecord, MAX_SIZE, PinRecord, PushRecord, RecordError, SetAside, TrashRecord, Why, seconds,
};
use crate::remedy::{Remedy, chain};
use bytes::Bytes;
use ulid::Ulid;

pub async fn set_aside(mending: &mut Mending<'_>, keys: Vec<Key>) -> Result<(), CheckError> {
    let (bucket, clock) = (mending.ends.bucket.clone(), mending.ends.clock.clone());
    let mut trash = TrashRecord::new(mending.repair.push.who.clone(), seconds(clock.wall()), Why::Damage);
    let mut going = Vec::new();
    let mut size = 0;
    for key in keys {
        match bucket.get(&key, MAX_SIZE).await {
            Ok(None) => {}
            Ok(Some((object, bytes))) => match may_go(mending, &object, &bytes).await? {
                Ok(false) => {}
                Err(why) => mending.mended.failed.push((key.to_string(), why)),
                // No record may be larger than can be read again.
                Ok(true) if size + bytes.len() as u64 > MAX_SIZE / 4 => {
                    let why = "there is too much to set aside at once; repair again".to_owned();
                    mending.mended.failed.push((key.to_string(), why));
                }
                Ok(true) => {
                    size += bytes.len() as u64;
                    trash.set_aside.push(SetAside::new(key.as_str(), &bytes));
                    going.push(key);
                }
            },
            Err(error) if error.remedy() == Remedy::GiveUpOnItem => {
                mending.mended.failed.push((key.to_string(), chain(&error)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if going.is_empty() {
        return Ok(());
    }
    let id = Ulid::from_datetime(clock.wall());
    let body = Body::from(Bytes::from(trash.print()));
    bucket.put(&Key::trash(id), body, Headers::COMPRESSED_RECORD).await?;
    mending.mended.trash.push(id);
    for key in going {
        // What says what the bucket is, is written over.
        if !matches!(key.kind(), Kind::Foreign) {
            bucket.delete(&key).await?;
        }
        mending.mended.set_aside.push(key);
    }
    Ok(())
}

/// Whether it is damaged still; or why it must stay for now.
async fn may_go(mending: &Mending<'_>, object: &ObjectInfo, bytes: &[u8]) -> Result<Result<bool, String>, CheckError> {
    let name = object.key.as_str();
    let is_readable = match object.key.kind() {
        Kind::Lease => is_sound(LeaseRecord::parse(name, bytes))?,
        Kind::Push => is_sound(PushRecord::parse(name, bytes))?,
        Kind::Pin => is_sound(PinRecord::parse(name, bytes))?,
        _ if object.key == Key::bucket_record() => is_sound(BucketRecord::parse(name, bytes))?,
        _ if object.key == Key::cache_info() => CacheInfo::parse(bytes).is_ok(),
        _ => true,
    };
    if is_readable {
        return Ok(Ok(false));
    }
    // A push renews its lease every ten minutes, and writes nothing more once it could not for thirty.
    let age = mending.ends.bucket.now().await?.duration_since(object.modified).unwrap_or_default();
    if object.key.kind() == Kind::Lease && age < GIVE_UP_AFTER + CLOCK_TOLERANCE {
        return Ok(Err("it may be that of a push in progress; it can go when it is 35 minutes old".to_owned()));
    }
    Ok(Ok(true))
}

/// A newer loft's is none that may be touched.
fn is_sound<T>(parsed: Result<T, RecordError>) -> Result<bool, CheckError> {
    match parsed {
        Ok(_) => Ok(true),
        Err(error @ RecordError::Newer { .. }) => Err(error.into()),
        Err(_) => Ok(false),
    }
}
