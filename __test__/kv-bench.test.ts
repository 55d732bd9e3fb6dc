import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type KvOptions, measureKv, type Server, serve } from 'xferd'
import { folder, xferd } from './fixture.js'

/** A store of nothing but keys, and where it is. */
async function store(t: ExecutionContext, kv: KvOptions = {}): Promise<{ server: Server; url: string }> {
  const server = await serve({ listen: ['kv://127.0.0.1:0'], kv })
  t.teardown(() => server.close({ graceMs: 0 }))
  return { server, url: server.addresses[0] }
}

const FEW = ['--requests', '500', '--warm-up', '0', '--keys', '20', '--connections', '3']

test('every load is answered, counted, and leaves no key behind', async (t) => {
  const { server, url } = await store(t)
  for (const command of ['ping', 'set', 'get', 'incr', 'lpush', 'mixed'] as const) {
    const figures = await measureKv(url, {
      command,
      ...(command === 'mixed' ? { reads: 0.5, distribution: 'zipf', exponent: 0.99 } : {}),
      connections: 4,
      pipeline: 8,
      threads: 2,
      keys: 50,
      warmUpMs: 0,
      requests: 1000,
    })
    const { requests, errors, misses, unsent, histogram } = figures
    t.deepEqual(
      { requests, errors, misses, unsent },
      { requests: 1000, errors: 0, misses: 0, unsent: 0 },
      command,
    )
    t.is(
      histogram.reduce((sum, { count }) => sum + count, 0),
      1000,
    )
    t.true(figures.p50Ms <= figures.p99Ms && figures.p99Ms <= figures.maxMs && figures.requestsPerSecond > 0)
  }
  t.is(server.metrics().kv?.keys, 0)
})

test('numbers past their limits are refused and named', async (t) => {
  const refused = async (options: Parameters<typeof measureKv>[1], message: RegExp) =>
    t.throwsAsync(measureKv('kv://127.0.0.1:1', options), { code: 'INVALID_ARGUMENT', message })
  await refused({ connections: 16_001 }, /16001 connections/)
  await refused({ connections: 0x1_0000_0001 }, /connections is 4294967297/)
  await refused({ pipeline: 0 }, /0 requests in a pipeline/)
  await refused({ keys: 1.5 }, /keys is 1\.5/)
  await refused({ timeMs: 0 }, /0 seconds/)
  await refused({ requests: 0 }, /0 requests/)
  await refused({ distribution: 'zipf' }, /zipf/)
  await refused({ command: 'mixed' }, /mixed/)
  await t.throwsAsync(measureKv('xfer://127.0.0.1:1'), { code: 'INVALID_ARGUMENT' })
})

test('the command line shows a table and a histogram, or the figures', async (t) => {
  const { url } = await store(t)
  const people = await xferd('kv', 'bench', url, ...FEW)
  t.is(people.code, 0, people.stderr)
  t.regex(people.stdout, /\| requests\/s \|.*p99 /)
  t.regex(people.stdout, /^ +< \d+\.\d{3} ms +\d+\.\d\d % █/m)
  const programs = await xferd(
    'kv',
    'bench',
    url,
    ...FEW,
    '--command',
    'mixed:0.9',
    '--distribution',
    'zipf:1',
    '--json',
  )
  t.is(programs.code, 0, programs.stderr)
  const { stores } = JSON.parse(programs.stdout)
  t.deepEqual([stores.length, stores[0].requests, stores[0].rounds.length], [1, 500, 1])
})

test('two servers are measured in turns, each round beginning with the other', async (t) => {
  const [one, other] = [await store(t), await store(t)]
  const { code, stdout, stderr } = await xferd(
    ...['kv', 'bench', one.url, '--compare', other.url, '--rounds', '2', '--json', ...FEW],
  )
  t.is(code, 0, stderr)
  const turns = [...stderr.matchAll(/^round (\d) of 2: (.*)$/gm)].map(([, round, url]) => [round, url])
  t.deepEqual(turns, [
    ['1', one.url],
    ['1', other.url],
    ['2', other.url],
    ['2', one.url],
  ])
  const { stores, ratios } = JSON.parse(stdout)
  t.deepEqual(
    stores.map((store: { address: string; requests: number }) => [store.address, store.requests]),
    [
      [one.url, 1000],
      [other.url, 1000],
    ],
  )
  t.is(ratios.p99_ms, stores[0].p99_ms / stores[1].p99_ms)
})

test('a password comes from a file', async (t) => {
  const { url } = await store(t, { password: 'secret' })
  const [right, wrong] = ['right', 'wrong'].map((name) => join(folder(t), name)) as [string, string]
  writeFileSync(right, 'secret\n')
  writeFileSync(wrong, 'guess\n')
  t.is((await xferd('kv', 'bench', url, ...FEW, '--password-file', right)).code, 0)
  for (const flags of [['--password-file', wrong], []]) {
    const { code, stdout } = await xferd('kv', 'bench', url, ...FEW, '--json', ...flags)
    t.deepEqual([code, JSON.parse(stdout).error.code], [1, 'PERMISSION'])
  }
})

test('errors in answer are shown, and make the command fail; a server that goes away, too', async (t) => {
  // The first argument of what is asked is on the third line.
  const server = createServer((socket) =>
    socket.on('data', (data) =>
      socket.write(`${data}`.split('\r\n')[2] === 'PING' ? '-ERR not today\r\n' : '+OK\r\n'),
    ),
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const url = `kv://127.0.0.1:${(server.address() as { port: number }).port}`
  const refused = await xferd('kv', 'bench', url, ...FEW, '--command', 'ping')
  t.is(refused.code, 1)
  t.regex(refused.stderr, /500 errors in answer to 500 requests, the first: ERR not today/)
  server.on('connection', (socket) => socket.destroy())
  const { code, stdout } = await xferd('kv', 'bench', url, ...FEW, '--command', 'ping', '--json')
  t.deepEqual([code, JSON.parse(stdout).error.retryable], [5, true])
})

test('what makes no sense on the command line is refused before anything is asked', async (t) => {
  for (const flags of [
    ['--command', 'mixed'],
    ['--command', 'get:1'],
    ['--command', 'flushall'],
    ['--distribution', 'zipf'],
    ['--distribution', 'zipf:11'],
    ['--seconds', 'soon'],
    ['--seconds', '1', '--requests', '1'],
    ['--compare-password-file', 'file'],
    ['--rounds', '1001'],
  ]) {
    const { code, stderr } = await xferd('kv', 'bench', 'kv://127.0.0.1:1', ...flags)
    t.is(code, 2, `${flags}: ${stderr}`)
  }
})
