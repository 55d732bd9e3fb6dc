import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { connect, connectKv, type KvClient, type KvOptions, type Server, serve, XferdError } from 'xferd'
import { folder, REPOSITORY, until } from './fixture.js'

// Not a part of the package's face.
const limits: typeof import('../src/kv/pipeline.js') = require(join(REPOSITORY, 'dist/kv/pipeline.js'))
const { openKvTransport }: typeof import('../src/kv/native-transport.js') = require(
  join(REPOSITORY, 'dist/kv/native-transport.js'),
)

/** A server of nothing but keys, and a client of it. */
async function keys(t: ExecutionContext, options: KvOptions = {}): Promise<{ server: Server; kv: KvClient }> {
  const server = await serve({ listen: ['kv://127.0.0.1:0'], kv: options })
  t.teardown(() => server.close({ graceMs: 0 }))
  const kv = await connectKv(
    server.addresses[0],
    options.password === undefined ? {} : { password: options.password },
  )
  t.teardown(() => kv.close())
  return { server, kv }
}

/** A client, and how many batches it has sent. */
async function counted(t: ExecutionContext): Promise<{ kv: KvClient; sent: () => number }> {
  const { server, kv } = await keys(t)
  const transport = await openKvTransport(server.addresses[0])
  let calls = 0
  const Client = kv.constructor as new (transport: unknown) => KvClient
  const counting = new Client({
    call: (...args: Parameters<typeof transport.call>) => {
      calls += 1
      return transport.call(...args)
    },
    lease: () => transport.lease(),
    close: () => transport.close(),
  })
  t.teardown(() => counting.close())
  return { kv: counting, sent: () => calls }
}

test('strings are set and asked for', async (t) => {
  const { kv } = await keys(t)
  t.is(await kv.set('key', 'välue'), 'OK')
  t.is(await kv.get('key'), 'välue')
  t.is(await kv.get('nothing'), null)
  t.is(await kv.set('key', 'other', { onlyIf: 'absent' }), null)
  t.is(await kv.set('key', 'other', { onlyIf: 'present', get: true, ex: 100 }), 'välue')
  t.is(await kv.ttl('key'), 100)
  t.is(await kv.set('key', 'again', { keepTtl: true }), 'OK')
  t.is(await kv.getex('key', { px: 50_000 }), 'again')
  t.true((await kv.pttl('key')) <= 50_000)
  t.is(await kv.getex('key', { persist: true }), 'again')
  t.is(await kv.ttl('key'), -1)
  const at = new Date('2100-01-01T00:00:00.500Z')
  await kv.set('key', 'a', { pxAt: at })
  t.is(await kv.pexpiretime('key'), at.getTime())
  await kv.set('key', 'a', { exAt: at })
  t.is(await kv.expiretime('key'), 4102444800)
  t.is(await kv.getset('key', 'b'), 'a')
  t.is(await kv.getdel('key'), 'b')
  t.is(await kv.append('s', 'hello'), 5)
  t.is(await kv.setrange('s', 1, 'u'), 5)
  t.is(await kv.getrange('s', 0, 1), 'hu')
  t.is(await kv.substr('s', -2, -1), 'lo')
  t.is(await kv.strlen('s'), 5)
  t.is(await kv.mset({ a: 1, b: '2' }), 'OK')
  t.is(await kv.mset(new Map([['c', Buffer.from('3')]])), 'OK')
  t.deepEqual(await kv.mget('a', ['b', 'c'], 'nothing'), ['1', '2', '3', null])
  t.is(await kv.msetnx([['a', 'x']]), 0)
  t.is(await kv.setnx('a', 'x'), 0)
  t.is(await kv.setex('e', 10, 'x'), 'OK')
  t.is(await kv.psetex('e', 10_000, 'x'), 'OK')
})

test('numbers are numbers', async (t) => {
  const { kv } = await keys(t)
  t.is(await kv.incr('n'), 1)
  t.is(await kv.incrby('n', 41), 42)
  t.is(await kv.decr('n'), 41)
  t.is(await kv.decrby('n', 1n), 40)
  t.is(await kv.incrbyfloat('n', 0.5), 40.5)
  t.is(await kv.with({ buffers: true }).incrbyfloat('n', 0.5), 41)
  t.is(await kv.incrby('large', 2n ** 62n), 2 ** 62)
  t.is(await kv.command('INCRBY', 'large', 1), 2n ** 62n + 1n)
})

test('what two strings have in common is told', async (t) => {
  const { kv } = await keys(t)
  await kv.mset({ a: 'ohmytext', b: 'mynewtext' })
  t.is(await kv.lcs('a', 'b'), 'mytext')
  t.is(await kv.lcsLen('a', 'b'), 6)
  t.deepEqual(await kv.lcsIdx('a', 'b', { minMatchLength: 4 }), {
    matches: [{ a: [4, 7], b: [5, 8], length: 4 }],
    length: 6,
  })
})

test('keys are copied, renamed, found and removed', async (t) => {
  const { kv } = await keys(t)
  await kv.set('a', 1)
  t.is(await kv.copy('a', 'b'), 1)
  t.is(await kv.copy('a', 'b'), 0)
  t.is(await kv.copy('a', 'b', { replace: true, database: 1 }), 1)
  t.is(await kv.exists('a', 'b', 'c'), 2)
  t.is(await kv.touch('a'), 1)
  t.is(await kv.rename('b', 'c'), 'OK')
  t.is(await kv.renamenx('a', 'c'), 0)
  t.is(await kv.expire('a', 100, { onlyIf: 'expiring' }), 0)
  t.is(await kv.expire('a', 100, { onlyIf: 'persistent' }), 1)
  t.is(await kv.pexpire('a', 50_000, { onlyIf: ['expiring', 'later'] }), 0)
  t.is(await kv.expireat('a', new Date('2100-01-01'), { onlyIf: 'later' }), 1)
  t.is(await kv.expiretime('a'), 4102444800)
  t.is(await kv.pexpireat('a', 4102444800001), 1)
  t.is(await kv.pexpiretime('a'), 4102444800001)
  t.is(await kv.persist('a'), 1)
  t.is(await kv.type('a'), 'string')
  t.is(await kv.type('nothing'), 'none')
  t.deepEqual((await kv.keys('*')).sort(), ['a', 'c'])
  t.true(['a', 'c'].includes((await kv.randomkey()) ?? ''))
  t.is(await kv.objectEncoding('a'), 'int')
  t.is(await kv.objectEncoding('nothing'), null)
  t.is(await kv.objectIdletime('a'), 0)
  t.is(await kv.objectRefcount('a'), 1)
  await t.throwsAsync(kv.objectFreq('a'), { message: /LFU/ })
  t.true(((await kv.memoryUsage('a')) ?? 0) > 10)
  t.is(await kv.del('a', 'nothing'), 1)
  t.is(await kv.delete(['c']), 1)
  t.is(await kv.unlink('c'), 0)
  t.is(await kv.dbsize(), 0)
})

test('lists grow and shrink at both ends', async (t) => {
  const { kv } = await keys(t)
  t.is(await kv.rpush('l', 'a', ['b', 'c']), 3)
  t.is(await kv.lpush('l', 0), 4)
  t.is(await kv.lpushx('nothing', 0), 0)
  t.is(await kv.rpushx('nothing', 0), 0)
  t.deepEqual(await kv.lrange('l', 0, -1), ['0', 'a', 'b', 'c'])
  t.is(await kv.lindex('l', -1), 'c')
  t.is(await kv.lset('l', 1, 'A'), 'OK')
  t.is(await kv.lpop('l'), '0')
  t.deepEqual(await kv.rpop('l', 2), ['c', 'b'])
  t.is(await kv.rpop('nothing'), null)
  t.is(await kv.lpop('nothing', 2), null)
  t.is(await kv.lrem('l', 0, 'A'), 1)
  t.is(await kv.llen('l'), 0)
  await kv.rpush('l', 1, 2, 3)
  t.is(await kv.ltrim('l', 1, 1), 'OK')
  t.deepEqual(await kv.lrange('l', 0, -1), ['2'])
})

test('sets have members', async (t) => {
  const { kv } = await keys(t)
  t.is(await kv.sadd('s', 'a', 'b', 'c'), 3)
  t.is(await kv.scard('s'), 3)
  t.is(await kv.sismember('s', 'a'), 1)
  t.deepEqual(await kv.smismember('s', 'a', 'x'), [1, 0])
  t.deepEqual((await kv.smembers('s')).sort(), ['a', 'b', 'c'])
  t.is((await kv.srandmember('s', 2)).length, 2)
  t.is(typeof (await kv.srandmember('s')), 'string')
  t.is(await kv.srem('s', 'a'), 1)
  t.deepEqual((await kv.spop('s', 5)).sort(), ['b', 'c'])
  t.is(await kv.spop('s'), null)
  t.deepEqual(await kv.spop('s', 5), [])
})

test('hashes have fields', async (t) => {
  const { kv } = await keys(t)
  t.is(await kv.hset('h', { a: 1, b: 'x' }), 2)
  t.is(await kv.hset('h', 'a', 2), 0)
  t.is(await kv.hsetnx('h', 'a', 3), 0)
  t.is(await kv.hmset('h', new Map([['c', '3']])), 'OK')
  t.is(await kv.hget('h', 'a'), '2')
  t.is(await kv.hget('h', 'nothing'), null)
  t.deepEqual(await kv.hmget('h', 'a', 'nothing'), ['2', null])
  const all = await kv.hgetall('h')
  t.deepEqual(Object.fromEntries(all), { a: '2', b: 'x', c: '3' })
  t.deepEqual(await kv.hgetall('nothing'), new Map())
  t.is(await kv.hincrby('h', 'a', 5), 7)
  t.deepEqual((await kv.hkeys('h')).sort(), ['a', 'b', 'c'])
  t.deepEqual((await kv.hvals('h')).sort(), ['3', '7', 'x'])
  t.is(await kv.hlen('h'), 3)
  t.is(await kv.hexists('h', 'a'), 1)
  t.is(await kv.hstrlen('h', 'b'), 1)
  t.is(await kv.hdel('h', 'a', 'b'), 2)
})

test('sorted sets have scores', async (t) => {
  const { kv } = await keys(t)
  t.is(await kv.zadd('z', { a: 1, b: 2.5, c: Infinity }), 3)
  t.is(
    await kv.zadd(
      'z',
      [
        ['a', 0],
        ['d', 4],
      ],
      { onlyIf: ['present', 'greater'], countChanged: true },
    ),
    0,
  )
  t.is(await kv.zaddIncr('z', 1, 'a'), 2)
  t.is(await kv.zaddIncr('z', 1, 'a', { onlyIf: 'absent' }), null)
  t.is(await kv.zincrby('z', -1.5, 'a'), 0.5)
  t.is(await kv.zcard('z'), 3)
  t.is(await kv.zcount('z', '(0.5', Infinity), 2)
  t.is(await kv.zscore('z', 'b'), 2.5)
  t.is(await kv.zscore('z', 'nothing'), null)
  t.deepEqual(await kv.zmscore('z', 'c', 'nothing'), [Infinity, null])
  t.is(await kv.zrank('z', 'b'), 1)
  t.is(await kv.zrevrank('z', 'c'), 0)
  t.is(await kv.zrank('z', 'nothing'), null)
  t.deepEqual(await kv.zrange('z', 0, -1), ['a', 'b', 'c'])
  t.deepEqual(await kv.zrange('z', '+inf', '(0.5', { by: 'score', reverse: true, withScores: true }), [
    { member: 'c', score: Infinity },
    { member: 'b', score: 2.5 },
  ])
  t.deepEqual(await kv.zrange('z', '[a', '(c', { by: 'lex', limit: { offset: 1, count: 1 } }), ['b'])
  t.deepEqual(await kv.zrangebyscore('z', 0, 2, { withScores: true }), [{ member: 'a', score: 0.5 }])
  t.deepEqual(await kv.zrangebyscore('z', 7, 8, { withScores: true }), [])
  t.deepEqual(await kv.zpopmin('z'), { member: 'a', score: 0.5 })
  t.deepEqual(await kv.zpopmax('z', 1), [{ member: 'c', score: Infinity }])
  t.is(await kv.zrem('z', 'b'), 1)
  t.is(await kv.zpopmin('z'), null)
  t.deepEqual(await kv.zpopmax('z', 2), [])
})

test('the server tells of itself', async (t) => {
  const { kv } = await keys(t)
  t.is(await kv.ping(), 'PONG')
  t.is(await kv.ping('hello'), 'hello')
  t.is(await kv.echo('hello'), 'hello')
  t.true(Math.abs((await kv.time()).seconds - Date.now() / 1000) < 60)
  t.regex(await kv.info('server'), /redis_version/)
  t.is(await kv.commandCount(), (await kv.commandList()).length)
  t.is((await kv.commandDocs('get')).get('get')?.get('group'), 'string')
  const docs = (await kv.commandDocs('set')).get('set')
  const [key, , condition] = (docs?.get('arguments') ?? []) as Map<string, unknown>[]
  t.deepEqual(Object.fromEntries(key ?? []), { name: 'key', type: 'string' })
  t.like(Object.fromEntries(condition ?? []), { type: 'oneof', flags: new Set(['optional']) })
  t.is((await kv.commandInfo('get', 'nothing'))[0]?.[0], 'get')
  t.is((await kv.commandInfo('get', 'nothing'))[1], null)
  t.is(await kv.configSet({ 'slowlog-log-slower-than': 0 }), 'OK')
  t.deepEqual(await kv.configGet('slowlog-log-*'), new Map([['slowlog-log-slower-than', '0']]))
  await kv.set('a', 1)
  t.true((await kv.slowlogLen()) > 0)
  const [slow] = (await kv.slowlogGet()).filter(({ args }) => args[0] === 'SET')
  t.deepEqual(slow?.args, ['SET', 'a', '1'])
  t.true(slow?.at instanceof Date)
  t.is(await kv.slowlogReset(), 'OK')
  const histogram = (await kv.latencyHistogram('set')).get('set')
  t.is(histogram?.calls, 1)
  t.true(histogram?.histogramUsec instanceof Map)
  t.is(await kv.configResetstat(), 'OK')
  t.regex(await kv.clientList(), /id=\d+ addr=/)
  t.is(await kv.clientKill({ type: 'pubsub' }), 0)
  t.is(typeof (await kv.lastsave()), 'number')
  for (const call of [kv.save(), kv.bgsave(), kv.bgrewriteaof()])
    await t.throwsAsync(call, { message: /--kv-dir/ })
  t.is(await kv.publish('news', 'today'), 0)
  t.deepEqual(await kv.pubsubChannels(), [])
  t.deepEqual(await kv.pubsubNumsub('news'), new Map([['news', 0]]))
  t.is(await kv.pubsubNumpat(), 0)
  t.is(await kv.flushdb(), 'OK')
  t.is(await kv.flushall(), 'OK')
})

test('every command that is served has a method, or what it is for has another name', async (t) => {
  const { kv } = await keys(t)
  const byOtherNames = {
    connectKv: ['auth', 'hello', 'select'],
    close: ['quit', 'exit', 'reset'],
    transaction: ['multi', 'exec', 'discard', 'watch', 'unwatch'],
    subscribe: ['unsubscribe'],
    psubscribe: ['punsubscribe'],
  }
  const known = Object.values(byOtherNames).flat()
  // Those of two words have a method for each of the second.
  const inTwo = ['client', 'command', 'config', 'latency', 'memory', 'object', 'pubsub', 'slowlog']
  const methods = new Set<string>()
  for (let face = kv; face; face = Object.getPrototypeOf(face))
    for (const name of Object.getOwnPropertyNames(face)) methods.add(name)
  const missing = (await kv.commandList()).filter(
    (name) =>
      !known.includes(name) &&
      !(inTwo.includes(name) ? [...methods].some((method) => method.startsWith(name)) : methods.has(name)),
  )
  t.deepEqual(missing, [])
})

test('bytes are told as buffers by a view', async (t) => {
  const { kv } = await keys(t)
  const bytes = Buffer.from([0, 255, 13, 10])
  const raw = kv.with({ buffers: true })
  await kv.set(Buffer.from([254]), bytes)
  t.deepEqual(await raw.get(new Uint8Array([254])), bytes)
  t.deepEqual(await raw.keys('*'), [Buffer.from([254])])
  await kv.hset('h', [[bytes, bytes]])
  t.deepEqual(await raw.hgetall('h'), new Map([[bytes, bytes]]))
  t.is(await raw.set('a', 'b'), 'OK')
  t.is(await raw.type('a'), 'string')
  t.is(await raw.with({ buffers: false }).get('a'), 'b')
  t.deepEqual(await raw.with({}).get('a'), Buffer.from('b'))
})

test('errors have the word that Redis gives them as their code', async (t) => {
  const { kv } = await keys(t)
  await kv.lpush('list', 'a')
  const results = await Promise.allSettled([
    kv.incr('list'),
    kv.get('a'),
    kv.command('NOTHING'),
    kv.set('a', 1),
  ])
  t.deepEqual(
    results.map((result) => (result.status === 'rejected' ? result.reason.code : result.value)),
    ['WRONGTYPE', null, 'ERR', 'OK'],
  )
  await t.throwsAsync(kv.incr('list'), { instanceOf: XferdError, message: /^WRONGTYPE Operation/ })
})

test('what makes no sense is refused here, and what else was said goes on', async (t) => {
  const { kv } = await keys(t)
  const code = 'INVALID_ARGUMENT'
  const [set] = await Promise.all([
    kv.set('a', 1),
    t.throwsAsync(kv.set('a', undefined as never), { code }),
    t.throwsAsync(kv.set('a', 'b', { onlyIf: 'never' as never }), { code, message: /absent, present/ }),
    t.throwsAsync(kv.expire('a', 1, { onlyIf: 'toString' as never }), { code }),
    t.throwsAsync(kv.hset('a', 'field', undefined as never), { code }),
    t.throwsAsync(kv.zadd('a', { b: Number.NaN }), { code }),
    t.throwsAsync(kv.command('select', 1), { code, message: /connectKv/ }),
    t.throwsAsync(kv.command('Multi'), { code, message: /transaction/ }),
    t.throwsAsync(kv.command('CLIENT', 'REPLY', 'OFF'), { code }),
  ])
  t.is(set, 'OK')
  t.throws(() => kv.subscribe(), { code })
})

test('what is said in one turn is sent at once', async (t) => {
  const { kv, sent } = await counted(t)
  await kv.ping()
  const before = sent()
  const later = Promise.resolve().then(() => kv.incr('c'))
  t.deepEqual(await Promise.all([kv.incr('a'), kv.incr('a'), later]), [1, 2, 1])
  t.is(sent(), before + 1)
})

test('a batch has a largest number of commands and bytes', async (t) => {
  const { kv, sent } = await counted(t)
  await kv.ping()
  const sends = async (count: number, value: string): Promise<number> => {
    const before = sent()
    await Promise.all(Array.from({ length: count }, (_, i) => kv.set(`key:${i % 10}`, value)))
    return sent() - before
  }
  const most = limits.BATCH_COMMANDS_MAX
  t.is(await sends(most, ''), 1)
  t.is(await sends(most + 1, ''), 2)
  t.is(await sends(1, 'x'.repeat(10 * limits.BATCH_BYTES_MAX)), 1)
  const head = '*3\r\n$3\r\nSET\r\n$5\r\nkey:0\r\n$131043\r\n\r\n'.length
  const half = 'x'.repeat(limits.BATCH_BYTES_MAX / 2 - head)
  t.is(await sends(2, half), 1)
  t.is(await sends(3, half), 2)
})

test('a transaction is carried out as a whole, and replies what was wanted', async (t) => {
  const { kv } = await keys(t)
  const [count, name] = await kv.transaction((t) => [t.incr('count'), t.get('name')])
  const typed: [number, string | null] = [count, name]
  t.deepEqual(typed, [1, null])
  const all = await kv.transaction((t) => {
    t.hset('h', { a: 1 })
    t.hgetall('h')
    t.info('server')
  })
  t.is(all.length, 3)
  t.deepEqual(all[1], new Map([['a', '1']]))
  const raw = await kv.with({ buffers: true }).transaction((t) => [t.echo('a'), t.objectEncoding('count')])
  t.deepEqual(raw, [Buffer.from('a'), 'int'])
  t.deepEqual(await kv.transaction((t) => t.incr('count')), [2])
  t.deepEqual(await kv.transaction(() => []), [])
})

test('a transaction that makes no sense changes nothing, and one that fails in part goes on', async (t) => {
  const { kv } = await keys(t)
  await t.throwsAsync(
    kv.transaction((t) => {
      t.set('a', 1)
      t.command('NOTHING')
    }),
    { code: 'ERR', message: /NOTHING/i },
  )
  t.is(await kv.exists('a'), 0)
  await kv.set('text', 'x')
  await t.throwsAsync(
    kv.transaction((t) => [t.incr('text'), t.set('a', 1)]),
    { message: /not an integer/ },
  )
  t.is(await kv.get('a'), '1')
  // What nobody asks for fails in silence.
  t.deepEqual(
    await kv.transaction((t) => {
      t.incr('text')
      return [t.get('a')]
    }),
    ['1'],
  )
  await t.throwsAsync(
    kv.transaction((t) => {
      t.set('a', 2)
      throw new Error('changed my mind')
    }),
    { message: 'changed my mind' },
  )
  t.is(await kv.get('a'), '1')
})

test('a command of a transaction is not awaited before that is carried out', async (t) => {
  const { kv } = await keys(t)
  const error = await t.throwsAsync(
    kv.transaction(async (t) => {
      await t.get('a')
    }),
    { code: 'INVALID_ARGUMENT' },
  )
  t.regex(`${error?.message}`, /return it/)
  let kept: { get(key: string): Promise<unknown> } | undefined
  await kv.transaction((t) => {
    kept = t
    return []
  })
  await t.throwsAsync(async () => kept?.get('a'), { code: 'INVALID_ARGUMENT' })
})

test('a transaction is tried again when somebody else changes what it watches', async (t) => {
  const { kv } = await keys(t)
  await kv.set('stock', 3)
  let calls = 0
  const [left] = await kv.transaction(
    async (t, now) => {
      calls += 1
      if (calls < 3) await kv.decr('stock')
      const stock = Number(await now.get('stock'))
      return [t.set('order', stock), t.decr('stock')]
    },
    { watch: ['stock'] },
  )
  t.is(left, 'OK')
  t.deepEqual([calls, await kv.mget('order', 'stock')], [3, ['1', '0']])
  await t.throwsAsync(
    kv.transaction(
      async (t) => {
        calls += 1
        await kv.incr('stock')
        return [t.set('order', 'never')]
      },
      { watch: ['stock'], attempts: 2 },
    ),
    { code: 'CONFLICT' },
  )
  t.deepEqual([calls, await kv.get('order')], [5, '1'])
})

test('all keys are scanned, or those that are wanted', async (t) => {
  const { kv } = await keys(t)
  await kv.mset(Array.from({ length: 1000 }, (_, i) => [`key:${i}`, 'x'] as const))
  await kv.lpush('list', 'a')
  const found = new Set<string>()
  for await (const key of kv.scan({ count: 50 })) found.add(key)
  t.is(found.size, 1001)
  const lists: string[] = []
  for await (const key of kv.scan({ type: 'list', match: 'l*' })) lists.push(key)
  t.deepEqual(lists, ['list'])
  for await (const key of kv.with({ buffers: true }).scan()) {
    t.true(key instanceof Buffer)
    break
  }
})

test('channels are listened to until the loop is left', async (t) => {
  const { kv } = await keys(t)
  const news = kv.subscribe('news', 'weather')
  await news.ready
  const shape = kv.with({ buffers: true }).psubscribe('n*')
  await shape.ready
  t.is(await kv.publish('news', 'one'), 2)
  t.is(await kv.publish('weather', 'rain'), 1)
  const heard: unknown[] = []
  for await (const message of news) {
    heard.push(message)
    if (heard.length === 2) break
  }
  t.deepEqual(heard, [
    { channel: 'news', message: 'one' },
    { channel: 'weather', message: 'rain' },
  ])
  for await (const message of shape) {
    t.deepEqual(message, {
      pattern: Buffer.from('n*'),
      channel: Buffer.from('news'),
      message: Buffer.from('one'),
    })
    break
  }
  await until(async () => (await kv.pubsubChannels()).length === 0 && (await kv.pubsubNumpat()) === 0)
  t.pass()
})

test('who listens comes back when the connection is lost', async (t) => {
  const { kv } = await keys(t)
  const news = kv.subscribe('news')
  await news.ready
  const heard: string[] = []
  const listening = (async () => {
    for await (const { message } of news) if (heard.push(message) === 2) break
  })()
  await kv.publish('news', 'one')
  await until(() => heard.length === 1)
  t.is(await kv.clientKill({ type: 'pubsub' }), 1)
  await until(async () => (await kv.publish('news', 'two')) === 1)
  await listening
  t.deepEqual(heard, ['one', 'two'])
  t.is(news.reconnections, 1)
})

test('listening that cannot begin says why', async (t) => {
  const { kv } = await keys(t)
  const many = Array.from({ length: 10_001 }, (_, i) => `${i}`)
  const feed = kv.subscribe(many)
  await t.throwsAsync(feed.ready, { message: /too many channels/ })
  await t.throwsAsync(
    async () => {
      for await (const _ of feed) t.fail()
    },
    { message: /too many channels/ },
  )
})

test('a feed ends when it is closed, and throws when its signal says so', async (t) => {
  const { kv } = await keys(t)
  const closed = kv.subscribe('a')
  const ending = (async () => {
    for await (const _ of closed) t.fail()
  })()
  await closed.ready
  await closed.close()
  await ending
  const controller = new AbortController()
  const aborted = kv.with({ signal: controller.signal }).subscribe('a')
  const failing = (async () => {
    for await (const _ of aborted) t.fail()
  })()
  await aborted.ready
  controller.abort(new Error('enough'))
  await t.throwsAsync(failing, { code: 'ABORTED', message: /enough/ })
  const late = kv.with({ signal: controller.signal }).monitor()
  await t.throwsAsync(late.ready, { code: 'ABORTED' })
})

test('every command is monitored', async (t) => {
  const { kv } = await keys(t)
  await kv.ping()
  const [feed, raw] = [kv.monitor(), kv.with({ buffers: true }).monitor()]
  await Promise.all([feed.ready, raw.ready])
  await kv.set('ключ "a"\n', Buffer.from([255, 92, 39]))
  for await (const { at, database, peer, args } of feed) {
    if (args[0] !== 'SET') continue
    t.true(Math.abs(at - Date.now() / 1000) < 60)
    t.is(database, 0)
    t.regex(peer, /^127\.0\.0\.1:\d+$/)
    t.deepEqual(args, ['SET', 'ключ "a"\n', "\ufffd\\'"])
    break
  }
  for await (const { args } of raw) {
    if (`${args[0]}` !== 'SET') continue
    t.deepEqual(args[2], Buffer.from([255, 92, 39]))
    break
  }
})

test('a signal rejects what was not replied to', async (t) => {
  const { kv, sent } = await counted(t)
  const controller = new AbortController()
  const hasty = kv.with({ signal: controller.signal })
  const [one, other] = [hasty.get('a'), kv.set('a', 1)]
  controller.abort(new Error('too late'))
  const error = await t.throwsAsync(one, { code: 'ABORTED', message: /too late/ })
  t.like(error?.cause, { message: 'too late' })
  t.is(await other, 'OK')
  const before = sent()
  await t.throwsAsync(hasty.get('a'), { code: 'ABORTED' })
  await t.throwsAsync(
    hasty.transaction((t) => [t.get('a')]),
    { code: 'ABORTED' },
  )
  t.is(sent(), before)
})

test('a server that is told to stop is said to', async (t) => {
  const { server, kv } = await keys(t)
  await kv.shutdown()
  for await (const { event } of server.events()) if (event === 'stop-asked') break
  t.pass()
})

test('a client says who it is, and which database it wants', async (t) => {
  const { server, kv } = await keys(t, { password: 'secret' })
  await kv.set('a', 1)
  const address = server.addresses[0]
  await using other = await connectKv(address, {
    password: 'secret',
    name: 'other',
    database: 3,
    connections: 2,
  })
  t.is(await other.exists('a'), 0)
  t.regex(await kv.clientList(), /name=other .*db=3 /)
  await t.throwsAsync(connectKv(address), { code: 'PERMISSION', message: /password/ })
  await t.throwsAsync(connectKv(address, { password: 'wrong' }), { code: 'PERMISSION' })
})

test('a client is not connected where nobody listens, or where it makes no sense', async (t) => {
  const server = await serve({ listen: ['kv://127.0.0.1:0'] })
  await server.close()
  await t.throwsAsync(connectKv(server.addresses[0], { timeoutMs: 1000 }), { code: 'CONNECTION_REFUSED' })
  const code = 'INVALID_ARGUMENT'
  await t.throwsAsync(connectKv('http://127.0.0.1'), { code, message: /kv:/ })
  await t.throwsAsync(connectKv('kv://127.0.0.1:1', { connections: 0 }), { code })
  const aborted = AbortSignal.abort(new Error('never mind'))
  await t.throwsAsync(connectKv('kv://127.0.0.1:1', { signal: aborted }), {
    code: 'ABORTED',
    message: /never mind/,
  })
})

test('a client reaches keys by a Unix socket', async (t) => {
  const socket = join(folder(t), 'kv.sock')
  const server = await serve({ listen: [`kv+unix://${socket}`] })
  t.teardown(() => server.close({ graceMs: 0 }))
  await using kv = await connectKv(server.addresses[0])
  t.is(await kv.incr('a'), 1)
})

test('a client that is closed ends what is under way, and says so from then on', async (t) => {
  const { kv } = await keys(t)
  const feed = kv.subscribe('a')
  await feed.ready
  const listening = (async () => {
    for await (const _ of feed) t.fail()
  })()
  await kv.close()
  await listening
  await t.throwsAsync(kv.get('a'), { code: 'ABORTED' })
  await t.throwsAsync(kv.subscribe('a').ready, { code: 'ABORTED' })
})

test('what was on its way when the connection broke says so, and what comes next goes on', async (t) => {
  const { kv } = await keys(t)
  const id = await kv.command('CLIENT', 'ID')
  const [killed, lost] = await Promise.allSettled([
    kv.clientKill({ id: Number(id), skipMe: false }),
    kv.set('a', 1),
  ])
  t.is(killed.status, 'fulfilled')
  t.is(lost.status === 'rejected' && lost.reason.code, 'CONNECTION_LOST')
  t.is(await kv.incr('a'), 1)
})

test('a server reads and writes its keys itself, and others see it', async (t) => {
  const { server, kv } = await keys(t, { password: 'secret' })
  t.is(await server.kv.set('a', 1), 'OK')
  t.is(await kv.incr('a'), 2)
  t.is(server.kv, server.kv)
  const news = server.kv.subscribe('news')
  await news.ready
  await kv.publish('news', 'today')
  for await (const { message } of news) {
    t.is(message, 'today')
    break
  }
  t.deepEqual(await server.kv.transaction((t) => [t.incr('a')], { watch: ['a'] }), [3])
  const { kv: own } = server
  await server.close({ graceMs: 0 })
  await t.throwsAsync(own.get('a'), { code: 'ABORTED' })
})

test('a server of files alone has no keys', async (t) => {
  const server = await serve({ root: folder(t), listen: ['xfer://127.0.0.1:0'] })
  t.teardown(() => server.close())
  t.throws(() => server.kv, { code: 'UNSUPPORTED' })
})

test('files and keys go by one connection', async (t) => {
  const root = folder(t)
  const server = await serve({ root, listen: ['xfer://127.0.0.1:0'], kv: { password: 'secret' } })
  t.teardown(() => server.close({ graceMs: 0 }))
  await using client = await connect(server.addresses[0], {
    ioThreads: 1,
    kv: { password: 'secret', database: 3, name: 'both' },
  })
  t.is(await client.kv.set('a', 1), 'OK')
  await client.makeDir('d')
  t.is((await client.list()).length, 1)
  t.regex(await client.kv.clientList(), /name=both .*db=3 /)
  t.is(server.stats().accepted, 1)
  // What has a state has one of its own.
  t.deepEqual(await client.kv.transaction((t) => [t.incr('a')], { watch: ['a'] }), [2])
  const news = client.kv.subscribe('news')
  await news.ready
  t.is(await client.kv.publish('news', 'today'), 1)
  for await (const { message } of news) {
    t.is(message, 'today')
    break
  }
  const { kv } = client
  await client.close()
  await t.throwsAsync(kv.get('a'), { code: 'ABORTED' })
})

test('connectKv goes where files are served, too', async (t) => {
  const server = await serve({ root: folder(t), listen: ['xfer://127.0.0.1:0'], kv: {} })
  t.teardown(() => server.close({ graceMs: 0 }))
  const kv = await connectKv(server.addresses[0], { database: 1 })
  t.is(await kv.incr('a'), 1)
  await kv.close()
  await t.throwsAsync(kv.incr('a'), { code: 'ABORTED' })
  const files = await serve({ root: folder(t), listen: ['xfer://127.0.0.1:0'] })
  t.teardown(() => files.close({ graceMs: 0 }))
  await t.throwsAsync(connectKv(files.addresses[0]), { code: 'UNSUPPORTED' })
})

test('a server that is started anew is come back to', async (t) => {
  const first = await serve({ listen: ['kv://127.0.0.1:0'] })
  const [address] = first.addresses
  await using kv = await connectKv(address)
  const news = kv.subscribe('news')
  await news.ready
  const heard = (async () => {
    for await (const { message } of news) return message
    return undefined
  })()
  await first.close({ graceMs: 0 })
  const second = await serve({ listen: [address] })
  t.teardown(() => second.close({ graceMs: 0 }))
  await until(async () => (await kv.publish('news', 'back').catch(() => 0)) === 1)
  t.is(await heard, 'back')
  t.is(news.reconnections, 1)
})
