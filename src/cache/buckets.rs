//! Token buckets in Redis: one script takes from as many as are asked for, atomically, by Redis'
//! own clock, so that all processes share them.

use super::{BalanceCache, CacheError};
use redis::Script;
use std::time::Duration;

/// For each key, with tokens a second, the most there can be, and how many are wanted: all of them
/// are taken or none. A bucket is read and written once, however many ask for it. One that nobody
/// asked for is full; one that is full again is forgotten.
/// Answers for each whether they were taken, how many are left, and the microseconds until as many
/// as were wanted are there.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers, buckets = {}, {}
for i = 1, #KEYS do
  local rate, most, wanted = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local bucket = buckets[KEYS[i]]
  if not bucket then
    local stored = redis.call('HMGET', KEYS[i], 'tokens', 'at')
    local at = tonumber(stored[2]) or now
    local tokens = (tonumber(stored[1]) or most) + math.max(0, now - at) * rate / 1000000
    bucket = { tokens = math.min(most, tokens), at = at, rate = rate, most = most }
    buckets[KEYS[i]] = bucket
  end
  local taken = bucket.tokens >= wanted and 1 or 0
  if taken == 1 then bucket.tokens = bucket.tokens - wanted end
  local wait = math.max(0, math.ceil((wanted - bucket.tokens) / rate * 1000000))
  answers[3 * i - 2], answers[3 * i - 1], answers[3 * i] = taken, math.floor(bucket.tokens), wait
end
for key, bucket in pairs(buckets) do
  local full = math.ceil((bucket.most - bucket.tokens) / bucket.rate * 1000) + 1000
  redis.call('HSET', key, 'tokens', string.format('%.6f', bucket.tokens), 'at', string.format('%.0f', math.max(now, bucket.at)))
  redis.call('PEXPIRE', key, full)
end
return answers";

/// Tokens that somebody wants of a bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The bucket's name.
    pub bucket: String,
    /// Tokens that come back a second; over zero.
    pub rate: f64,
    /// The most there can be.
    pub most: u32,
    /// How many; never more than there can be.
    pub tokens: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether all of them were taken, or none.
    pub taken: bool,
    /// How many whole ones are left.
    pub left: u32,
    /// Until as many as were wanted will be there, if nobody else comes.
    pub wait: Duration,
}

impl BalanceCache {
    /// Takes tokens, in the order given; one round trip.
    pub async fn take(&self, wanted: &[Wanted]) -> Result<Vec<Taken>, CacheError> {
        let script = Script::new(TAKE);
        let mut call = script.prepare_invoke();
        for each in wanted {
            let key = format!("{}rate:{}", self.prefix, each.bucket);
            call.key(key).arg(each.rate).arg(each.most).arg(each.tokens);
        }
        let answers: Vec<i64> = self
            .asked(async {
                let mut connection = self.connection().await?;
                call.invoke_async(&mut connection).await
            })
            .await?;
        let one = |answer: &[i64]| Taken {
            taken: answer[0] == 1,
            left: u32::try_from(answer[1]).unwrap_or(0),
            wait: Duration::from_micros(u64::try_from(answer[2]).unwrap_or(0)),
        };
        Ok(answers.chunks_exact(3).map(one).collect())
    }
}
