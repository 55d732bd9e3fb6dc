import { execFile, spawnSync } from 'node:child_process'
import { connect as dial } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { type KvOptions, type Server, serve, XferdError } from 'xferd'
import { folder } from './fixture.js'

/** A server of nothing but keys, and the port it took. */
async function keys(t: ExecutionContext, kv: KvOptions = {}): Promise<{ server: Server; port: number }> {
  const server = await serve({ listen: ['kv://127.0.0.1:0'], kv })
  t.teardown(() => server.close({ graceMs: 0 }))
  return { server, port: Number(new URL(server.addresses[0].replace('kv:', 'http:')).port) }
}

test('ioredis connects, pipelines, transacts, subscribes and comes back', async (t) => {
  const { port } = await keys(t)
  const [redis, listener] = [new Redis(port), new Redis(port)]
  t.teardown(() => {
    redis.disconnect()
    listener.disconnect()
  })
  t.is(await redis.set('greeting', 'hello', 'EX', 100), 'OK')
  t.is(await redis.get('greeting'), 'hello')
  const answers = await redis
    .pipeline()
    .incr('n')
    .incrby('n', 41)
    .lpush('list', 'a', 'b')
    .lrange('list', 0, -1)
    .exec()
  t.deepEqual(
    answers?.map(([, answer]) => answer),
    [1, 42, 2, ['b', 'a']],
  )
  t.deepEqual(await redis.multi().hset('hash', 'field', 'value').hgetall('hash').exec(), [
    [null, 1],
    [null, { field: 'value' }],
  ])
  await listener.subscribe('news')
  const heard = new Promise((resolve) =>
    listener.once('message', (channel, text) => resolve([channel, text])),
  )
  t.is(await redis.publish('news', 'today'), 1)
  t.deepEqual(await heard, ['news', 'today'])
  // It comes back on its own when it was cut off.
  t.true(Number(await redis.call('CLIENT', 'KILL', 'SKIPME', 'yes', 'TYPE', 'pubsub')) >= 1)
  await new Promise((resolve) => listener.once('ready', resolve))
  t.is(await redis.dbsize(), 4)
})

test('node-redis speaks RESP3 with it', async (t) => {
  const { port } = await keys(t)
  const client = createClient({ url: `redis://127.0.0.1:${port}`, RESP: 3 })
  await client.connect()
  t.teardown(() => client.destroy())
  await client.mSet({ a: '1', b: '2' })
  t.deepEqual(await client.mGet(['a', 'b', 'nothing']), ['1', '2', null])
  await client.zAdd('scores', [
    { value: 'low', score: 1 },
    { value: 'high', score: 2.5 },
  ])
  t.deepEqual(await client.zPopMin('scores'), { value: 'low', score: 1 })
  t.deepEqual(await client.multi().incr('a').get('a').exec(), [2, '2'])
  const found: string[] = []
  for await (const names of client.scanIterator()) found.push(...names)
  t.deepEqual(found.sort(), ['a', 'b', 'scores'])
})

test('redis-cli and redis-benchmark run as they come', async (t) => {
  if (spawnSync('redis-benchmark', ['--version']).error) {
    t.log('skipped: redis-benchmark is not installed (apt-get install redis-tools)')
    return t.pass()
  }
  const { server, port } = await keys(t)
  const run = promisify(execFile)
  const asked = await run('redis-cli', ['-p', `${port}`, '--no-raw', 'SET', 'key', 'value'])
  t.is(asked.stdout, 'OK\n')
  const { stdout } = await run('redis-benchmark', ['-p', `${port}`, '-n', '200', '-q'])
  for (const name of ['PING_MBULK', 'LRANGE_600', 'ZPOPMIN', 'MSET (10 keys)'])
    t.true(stdout.includes(name), name)
  t.false(stdout.includes('rror'), stdout)
  const { kv } = server.metrics()
  t.is(kv?.byCommand.find(({ name }) => name === 'get')?.calls, 200)
})

test('people type words, and a browser is told nothing', async (t) => {
  const { server, port } = await keys(t)
  t.is(
    await say(port, 'SET key "a value"\r\nGET key\r\nDELETE key\r\nEXIT\r\n'),
    '+OK\r\n$7\r\na value\r\n:1\r\n+OK\r\n',
  )
  t.is(await say(port, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'), '')
  for await (const { error } of server.events()) {
    if (error) {
      t.regex(error.message, /HTTP/)
      break
    }
  }
})

test('files and keys are served side by side, keys also on a Unix socket', async (t) => {
  const root = folder(t)
  const socket = join(folder(t), 'kv.sock')
  const server = await serve({ root, listen: ['xfer://127.0.0.1:0', `kv+unix://${socket}`] })
  t.teardown(() => server.close({ graceMs: 0 }))
  t.is(server.addresses[1], `kv+unix://${socket}`)
  const redis = new Redis(socket)
  t.teardown(() => redis.disconnect())
  t.is(await redis.set('a', '1'), 'OK')
  t.is(server.metrics().kv?.keys, 1)
})

test('a password is asked for, and memory has its limit', async (t) => {
  const { server, port } = await keys(t, { password: 'secret', maxMemory: 100_000, policy: 'allkeys-lru' })
  const stranger = new Redis(port, { retryStrategy: null, lazyConnect: true })
  stranger.on('error', () => {})
  await t.throwsAsync(() => stranger.get('a'), { message: /NOAUTH/ })
  stranger.disconnect()
  const redis = new Redis(port, { password: 'secret' })
  t.teardown(() => redis.disconnect())
  const pipeline = redis.pipeline()
  for (let i = 0; i < 1_000; i++) pipeline.set(`key:${i}`, 'x'.repeat(1_000))
  const answers = await pipeline.exec()
  t.true(answers?.every(([error]) => error === null))
  const kv = server.metrics().kv
  t.true(kv !== undefined && kv.evicted > 800 && kv.memory < 110_000, JSON.stringify(kv))
})

test('what makes no sense about keys is refused and named', async (t) => {
  const code = 'INVALID_ARGUMENT'
  await t.throwsAsync(serve({ listen: ['xfer://127.0.0.1:0'] }), {
    instanceOf: XferdError,
    code,
    message: /root/,
  })
  await t.throwsAsync(serve({ listen: ['kv://127.0.0.1:0/path'] }), { code, message: /path/ })
  await t.throwsAsync(serve({ listen: ['kv://0.0.0.0:0'] }), { code, message: /insecure/ })
  await t.throwsAsync(serve({ listen: ['kv://127.0.0.1:0'], kv: { maxMemory: 0.5 } }), {
    code,
    message: /memory/,
  })
  await t.throwsAsync(serve({ listen: ['kv://127.0.0.1:0'], kv: { password: '' } }), {
    code,
    message: /password/,
  })
})

/** What is answered until the server ends the connection. */
async function say(port: number, text: string): Promise<string> {
  const socket = dial(port, '127.0.0.1')
  socket.end(text)
  let answer = ''
  for await (const bytes of socket) answer += bytes
  return answer
}
