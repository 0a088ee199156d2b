package redisstore

import "github.com/redis/go-redis/v9"

// Each script works on one key, so that it runs on a Cluster too, also while a slot is
// moved. Time is Redis's own: the absolute end (field e, and the scores of an index) is in
// milliseconds of its clock. Numbers are formatted, since Lua would write large ones as 1e+12.
//
// A server that is full refuses a script whose first write needs room, and none that
// comes after a write that needs none. So new sessions begin with one that does, and what
// those that are there need (leases, renewals, sign-outs) with one that changes nothing.

// createRecord writes a record whole. A repeat after a lost answer writes the same.
// KEYS record; ARGV idle, absolute, v, i, t, m.
var createRecord = redis.NewScript(`
local t = redis.call('TIME')
local idle, absolute = tonumber(ARGV[1]), tonumber(ARGV[2])
local e = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + absolute)
redis.call('HSET', KEYS[1], 'v', ARGV[3], 'i', ARGV[4], 't', ARGV[5], 'm', ARGV[6], 'e', e)
return redis.call('PEXPIRE', KEYS[1], math.min(idle, absolute))
`)

// addIndex lists a session until its absolute end and drops those whose end has passed.
// KEYS index; ARGV absolute, handle.
var addIndex = redis.NewScript(`
local t = redis.call('TIME')
local now, absolute = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[1])
redis.call('ZADD', KEYS[1], string.format('%.0f', now + absolute), ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if redis.call('PTTL', KEYS[1]) < absolute then
  redis.call('PEXPIRE', KEYS[1], absolute)
end
return 1
`)

// put writes a note unless its name is taken, and returns what it holds then. Its own
// value is written again, with a new life.
// KEYS note; ARGV value, life.
var put = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return held end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
`)

// raise keeps the greater value.
// KEYS note; ARGV value, life.
var raise = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held and held > ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('DEL', KEYS[1])
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
`)

// take returns a note and removes it. A repeat after a lost answer finds nothing: who
// asked begins again, as anybody does who comes too late. (GETDEL would need one more right, and is not in
// every Valkey and Redis that is in use.)
// KEYS note.
var take = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held then redis.call('DEL', KEYS[1]) end
return held
`)

// drop removes a note that holds a value.
// KEYS note; ARGV value.
var drop = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
`)

// replace returns 1, 0 when there is no record (and makes none), or -1 when it is of
// another version. A repeat after a lost answer finds its own values. What a provider
// gave is kept also by a server that is full: it will not give it again.
// KEYS record; ARGV have, v, i, t.
var replace = redis.NewScript(`
local v = redis.call('HGET', KEYS[1], 'v')
if not v then return 0 end
if v == ARGV[2] and redis.call('HGET', KEYS[1], 'i') == ARGV[3] then return 1 end
if v ~= ARGV[1] then return -1 end
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('PEXPIRE', KEYS[1], left) end
redis.call('HSET', KEYS[1], 'v', ARGV[2], 'i', ARGV[3], 't', ARGV[4])
return 1
`)

// touch returns 1, 0 when there is no record (and makes none), or -1 when its
// absolute end cannot be read.
// KEYS record; ARGV idle.
var touch = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local e = tonumber(redis.call('HGET', KEYS[1], 'e') or '')
if not e then return -1 end
local t = redis.call('TIME')
local left = e - t[1] * 1000 - math.floor(t[2] / 1000)
if left <= 0 then
  redis.call('DEL', KEYS[1])
  return 0
end
return redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(tonumber(ARGV[1]), left)))
`)

// end begins with a write that changes nothing: a server that takes no writes (a replica,
// one that cannot save) would publish, and only then refuse to delete. It publishes
// before it deletes: a user who may not publish learns it while the record is there.
// Nobody can look in between.
// KEYS record; ARGV channel, handle.
var end = redis.NewScript(`
redis.call('PEXPIRE', KEYS[1], math.max(1, redis.call('PTTL', KEYS[1])))
redis.call('PUBLISH', ARGV[1], ARGV[2])
return redis.call('DEL', KEYS[1])
`)

// publish is refused by a replica, where PUBLISH alone would be taken: who publishes
// there hears himself, but no endings. DEL needs no room in memory.
// KEYS a key that is never there; ARGV channel, nonce.
var publish = redis.NewScript(`
redis.call('DEL', KEYS[1])
return redis.call('PUBLISH', ARGV[1], ARGV[2])
`)
