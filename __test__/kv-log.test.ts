/** What `xferd serve` makes of a log of keys that a crash, or somebody, has left otherwise than it was written. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import test, { type ExecutionContext } from 'ava'
import { Redis } from 'ioredis'
import { serve } from 'xferd'
import { folder, startXferd, until, xferd } from './fixture.js'

const KEYS = 50

test('a log that is cut where it was never synchronised is gone on with, and that is told', async (t) => {
  const directory = await filled(t, 'always')
  const log = readFileSync(increment(directory))
  const batches = batchesIn(log)
  // All there was before the last batch was safe, as that says itself.
  const last = batches.at(-1) as number
  for (const cut of [last + 1, last + 20, Math.floor((last + log.length) / 2), log.length - 1]) {
    const copy = copyOf(t, directory)
    truncateSync(increment(copy), cut)
    const { server, redis, failures } = await start(t, copy)
    await until(() => failures.length > 0)
    t.regex(failures[0] as string, /was not whole: the last \d+ bytes, from offset \d+ on, are cut off/)
    t.true(failures[0]?.includes(`${cut - last} bytes, from offset ${last} on`), failures[0])
    t.is(await redis.dbsize(), KEYS - 1)
    t.is(await redis.get(`key:${KEYS - 2}`), textOf(KEYS - 2))
    t.is(await redis.set(`key:${KEYS - 1}`, 'anew'), 'OK')
    await kill(server)
    const again = await start(t, copy)
    t.is(await again.redis.dbsize(), KEYS)
    t.deepEqual(again.failures, [])
    await kill(again.server)
  }
})

test('without synchronisation a log may be cut anywhere, and what is before is there', async (t) => {
  const directory = await filled(t, 'no')
  const log = readFileSync(increment(directory))
  const batches = batchesIn(log)
  for (const part of [0.2, 0.5, 0.8]) {
    const copy = copyOf(t, directory)
    const cut = Math.floor(log.length * part)
    truncateSync(increment(copy), cut)
    const { server, redis } = await start(t, copy)
    const whole = batches.filter((_, index) => (batches[index + 1] ?? log.length) <= cut).length
    t.is(await redis.dbsize(), whole)
    t.is(await redis.get(`key:${whole - 1}`), textOf(whole - 1))
    await kill(server)
  }
})

test('a byte that is another one than was written is found, named, and nothing is served', async (t) => {
  const directory = await filled(t, 'always')
  const file = increment(directory)
  const log = readFileSync(file)
  const batches = batchesIn(log)
  for (const index of [3, KEYS / 2]) {
    const [begin, end] = [batches[index] as number, batches[index + 1] as number]
    const damaged = Buffer.from(log)
    // In the value.
    damaged[end - 10] = (damaged[end - 10] as number) ^ 1
    writeFileSync(file, damaged)
    const { code, stderr } = await xferd('serve', ...flags(directory))
    t.not(code, 0)
    t.true(stderr.includes(`${file} is damaged at offset ${begin}`), stderr)
    t.true(readFileSync(file).equals(damaged), 'what may still be repaired was changed')
  }
  writeFileSync(file, log)
  const { redis } = await start(t, directory)
  t.is(await redis.dbsize(), KEYS)
})

test('a server in the same process takes over what another one has closed', async (t) => {
  const kv = { dir: folder(t), fsync: 'always' as const }
  const first = await serve({ listen: ['kv://127.0.0.1:0'], kv })
  await first.kv.set('key', 'kept')
  await t.throwsAsync(serve({ listen: ['kv://127.0.0.1:0'], kv }), { code: 'BUSY' })
  await first.close()
  await t.throwsAsync(first.kv.set('key', 'too late'))
  await using second = await serve({ listen: ['kv://127.0.0.1:0'], kv })
  t.is(await second.kv.get('key'), 'kept')
})

/** A folder that a server has recorded so many keys in, a batch each, before it was killed. */
async function filled(t: ExecutionContext, fsync: 'always' | 'no'): Promise<string> {
  const directory = join(folder(t), 'keys')
  const { server, redis } = await start(t, directory, '--kv-fsync', fsync)
  for (let key = 0; key < KEYS; key++) await redis.set(`key:${key}`, textOf(key))
  await kill(server)
  return directory
}

function textOf(key: number): string {
  return `${key}`.padStart(100, '-')
}

function flags(directory: string): string[] {
  return ['--listen', 'kv://127.0.0.1:0', '--kv-dir', directory]
}

/** `xferd serve` on `directory`, a connection to it, and what it says has gone wrong. */
async function start(t: ExecutionContext, directory: string, ...more: string[]) {
  const server = startXferd('serve', ...flags(directory), '--json', ...more)
  t.teardown(() => server.kill('SIGKILL'))
  const failures: string[] = []
  let address: string | undefined
  createInterface({ input: server.stdout as NodeJS.ReadableStream }).on('line', (text) => {
    const { addresses, error } = JSON.parse(text)
    address ??= addresses?.[0]
    if (error) failures.push(error.message)
  })
  await until(() => address !== undefined)
  const redis = new Redis(Number(address?.split(':').at(-1)), { retryStrategy: null })
  redis.on('error', () => {})
  t.teardown(() => redis.disconnect())
  return { server, redis, failures }
}

async function kill(server: ChildProcess): Promise<void> {
  server.kill('SIGKILL')
  await once(server, 'exit')
}

function copyOf(t: ExecutionContext, directory: string): string {
  const copy = join(folder(t), 'keys')
  cpSync(directory, copy, { recursive: true })
  return copy
}

/** The only one, as long as the log was not written anew. */
function increment(directory: string): string {
  const [name] = readdirSync(directory).filter((name) => name.includes('.incr.'))
  return join(directory, name as string)
}

/** Where the batches begin. */
function batchesIn(log: Buffer): number[] {
  return [...log.toString('latin1').matchAll(/#XFERD:/g)].map(({ index }) => index)
}
