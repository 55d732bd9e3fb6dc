import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { connectKv, type KvClient, type KvOptions, serve } from 'xferd'
import { folder, line, startOnTerminal, startXferd, until, xferd, xferdWith } from './fixture.js'

/** A server of nothing but keys, its address, and a client of it. */
async function keys(t: ExecutionContext, options: KvOptions = {}): Promise<{ url: string; kv: KvClient }> {
  const server = await serve({ listen: ['kv://127.0.0.1:0'], kv: options })
  t.teardown(() => server.close({ graceMs: 0 }))
  const url = server.addresses[0]
  const kv = await connectKv(url, options.password === undefined ? {} : { password: options.password })
  t.teardown(() => kv.close())
  return { url, kv }
}

test.serial('what is set is got, bytes as they are', async (t) => {
  const { url, kv } = await keys(t)
  const bytes = Buffer.from([0, 255, 13, 10])
  const set = await xferdWith(bytes, 'kv', 'set', url, 'key', '--json')
  t.is(set.code, 0, set.stderr)
  t.deepEqual(JSON.parse(set.stdout), { key: 'key', bytes: 4 })
  t.deepEqual(await kv.with({ buffers: true }).get('key'), bytes)
  t.deepEqual(JSON.parse((await xferd('kv', 'get', url, 'key', '--json')).stdout), {
    key: 'key',
    value: { base64: bytes.toString('base64') },
  })
  const silent = await xferd('kv', 'set', url, 'key', 'välue', '--ex', '100')
  t.deepEqual([silent.code, silent.stdout, silent.stderr], [0, '', ''])
  t.true((await kv.ttl('key')) > 50)
  t.is((await xferd('kv', 'get', url, 'key')).stdout, 'välue')
  await xferd('kv', 'set', url, 'key', 'other', '--keep-ttl')
  t.true((await kv.ttl('key')) > 50)
})

test.serial('what is not there, or is in the way, is said and has exit code 1', async (t) => {
  const { url, kv } = await keys(t)
  const absent = await xferd('kv', 'get', url, 'key', '--json')
  t.is(absent.code, 1)
  t.is(JSON.parse(absent.stdout).error.code, 'NOT_FOUND')
  const present = await xferd('kv', 'set', url, 'key', 'x', '--only-if', 'present')
  t.deepEqual([present.code, present.stderr], [1, 'xferd: there is no key key\n'])
  await kv.lpush('list', 'a')
  const exists = await xferd('kv', 'set', url, 'list', 'x', '--only-if', 'absent')
  t.deepEqual([exists.code, exists.stderr], [1, 'xferd: the key list is there\n'])
  const list = await xferd('kv', 'get', url, 'list')
  t.is(list.code, 1)
  t.regex(list.stderr, /^xferd: WRONGTYPE /)
})

test.serial('keys are removed and counted', async (t) => {
  const { url, kv } = await keys(t)
  await kv.mset({ a: 1, b: 2 })
  t.is((await xferd('kv', 'del', url, 'a', 'nothing')).stderr, 'removed 1 key\n')
  t.deepEqual(JSON.parse((await xferd('kv', 'del', url, 'a', 'b', '--json')).stdout), { removed: 1 })
})

test.serial('keys are scanned, a line each', async (t) => {
  const { url, kv } = await keys(t)
  await kv.mset(Array.from({ length: 50 }, (_, i) => [`key:${i}`, 'x'] as const))
  await kv.hset(Buffer.from([255]), 'a', 1)
  const all = await xferd('kv', 'scan', url, '--match', 'key:*', '--count', '7')
  t.is(new Set(all.stdout.trimEnd().split('\n')).size, 50)
  const hashes = await xferd('kv', 'scan', url, '--type', 'hash', '--json')
  t.deepEqual(hashes.stdout, `{"key":{"base64":"/w=="}}\n`)
})

test.serial('every command is monitored, a line each', async (t) => {
  const { url, kv } = await keys(t)
  for (const flags of [[], ['--json']]) {
    const child = startXferd('kv', 'monitor', url, ...flags)
    t.teardown(() => child.kill('SIGKILL'))
    const first = line(child.stdout)
    const saying = setInterval(() => void kv.set('a', 'x y'), 20)
    const text = await first
    clearInterval(saying)
    child.kill('SIGINT')
    if (flags.length === 0) t.regex(text, /^\d+\.\d{6} \[0 127\.0\.0\.1:\d+\] "SET" "a" "x y"$/)
    else t.deepEqual(JSON.parse(text).args, ['SET', 'a', 'x y'])
  }
})

test.serial('lines are piped to it, and what is replied is written as it is', async (t) => {
  const { url } = await keys(t)
  const said = await xferdWith(
    'SET a "1\\x302"\n\nGET a\nRPUSH l 1 \'a b\' ""\r\nLRANGE l 0 -1\nGET b\nselect 1\nGET a\nquit\nNONSENSE\n',
    'kv',
    url,
  )
  t.is(said.code, 0, said.stderr)
  t.is(said.stdout, 'OK\n102\n3\n1\na b\n\n\nOK\n\n')
  const json = await xferdWith(
    'HSET h a 1 b 2\nHGETALL h\nZADD z inf m\nZSCORE z m\nGET "\\xff"\n',
    'kv',
    url,
    '--json',
  )
  t.deepEqual(
    json.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).reply),
    [2, { a: '1', b: '2' }, 1, 'inf', null],
  )
})

test.serial('piped lines end with the first error that is replied', async (t) => {
  const { url, kv } = await keys(t)
  const failed = await xferdWith('SET a x\nINCR a\nSET b 1\n', 'kv', url)
  t.deepEqual(
    [failed.code, failed.stdout, failed.stderr],
    [1, 'OK\n', 'xferd: ERR value is not an integer or out of range\n'],
  )
  t.is(await kv.exists('b'), 0)
  const json = await xferdWith('INCR a\n', 'kv', url, '--json')
  t.is(json.code, 1)
  t.is(JSON.parse(json.stdout).error.code, 'ERR')
  for (const [text, message] of [
    ['GET "a\n', 'a quote is not closed'],
    ['GET "a"b\n', 'a quote ends within a word'],
    ['UNSUBSCRIBE\n', 'not needed'],
  ] as const) {
    const wrong = await xferdWith(text, 'kv', url)
    t.is(wrong.code, 2)
    t.true(wrong.stderr.includes(message), wrong.stderr)
  }
})

test.serial('what is listened to is written as it comes', async (t) => {
  const { url, kv } = await keys(t)
  const listening = xferdWith('SUBSCRIBE news\n', 'kv', url, '--json')
  await until(async () => (await kv.publish('news', 'today')) === 1)
  await kv.clientKill({ type: 'pubsub' })
  const { code, stdout } = await listening
  const [subscribed, message, error] = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  t.deepEqual(subscribed, { reply: ['subscribe', 'news', 1] })
  t.deepEqual(message, { reply: ['message', 'news', 'today'] })
  t.is(error.error.code, 'CONNECTION_LOST')
  t.is(code, 5)
})

test.serial('a password is in a file or in the environment', async (t) => {
  const { url } = await keys(t, { password: 'secret' })
  const without = await xferd('kv', 'scan', url)
  t.is(without.code, 1)
  t.regex(without.stderr, /--password-file/)
  const piped = await xferdWith('GET a\n', 'kv', url)
  t.regex(piped.stderr, /--password-file/)
  const file = join(folder(t), 'password')
  writeFileSync(file, 'secret\n')
  const withFile = await xferd('kv', 'set', url, 'a', '1', '--password-file', file)
  t.is(withFile.code, 0, withFile.stderr)
  process.env.XFERD_KV_PASSWORD = 'secret'
  t.teardown(() => {
    delete process.env.XFERD_KV_PASSWORD
  })
  t.is((await xferd('kv', 'get', url, 'a', '--database', '0')).stdout, '1')
})

test.serial('nobody there, and an address that is none, are told apart by the exit code', async (t) => {
  const server = await serve({ listen: ['kv://127.0.0.1:0'] })
  await server.close()
  const refused = await xferd('kv', 'get', server.addresses[0], 'a', '--json')
  t.is(refused.code, 5)
  t.is(JSON.parse(refused.stdout).error.code, 'CONNECTION_REFUSED')
  t.is((await xferdWith('GET a\n', 'kv', server.addresses[0])).code, 5)
  for (const args of [
    ['get', 'http://127.0.0.1', 'a'],
    ['get', server.addresses[0]],
    ['set', server.addresses[0], 'a', 'b', '--ex', '1', '--px', '1'],
    ['scan', server.addresses[0], '--count', '0'],
    ['import', 'dump.rdb'],
  ])
    t.is((await xferd('kv', ...args)).code, 2, args.join(' '))
})

test.serial('help begins with examples, and names commands as they are typed', async (t) => {
  const { stdout } = await xferd('kv', 'get', '--help')
  t.true(stdout.indexOf('$ xferd kv get kv://') < stdout.indexOf('USAGE'), stdout)
  const root = await xferd('--help')
  t.regex(root.stdout, /\n {2}kv {5}Type commands/)
  t.false(root.stdout.includes('TOPICS'))
})

test.serial('keys of Redis are imported, and served from there', async (t) => {
  const here = folder(t)
  const log = join(here, 'appendonly.aof')
  writeFileSync(
    log,
    'SET a 1\nRPUSH l x y\n'.replace(/.+\n/g, (line) => resp(line.trim().split(' '))),
  )
  const dir = join(here, 'keys')
  const imported = await xferd('kv', 'import', log, '--kv-dir', dir, '--json')
  t.is(imported.code, 0, imported.stderr)
  t.deepEqual(JSON.parse(imported.stdout), { keys: 2, bytes: statSync(log).size, torn_bytes: 0 })
  const again = await xferd('kv', 'import', log, '--kv-dir', dir)
  t.is(again.code, 2)
  t.regex(again.stderr, /keys in it already \(2\)/)
  const { kv } = await keys(t, { dir })
  t.deepEqual(await kv.lrange('l', 0, -1), ['x', 'y'])
  const used = await xferd('kv', 'import', log, '--kv-dir', dir)
  t.is(used.code, 5)
  t.regex(used.stderr, /used by another server/)
})

test.serial('an import that cannot be done says where, and imports nothing', async (t) => {
  const here = folder(t)
  const [log, dir] = [join(here, 'appendonly.aof'), join(here, 'keys')]
  writeFileSync(log, `${resp(['SET', 'a', '1'])}${resp(['XADD', 's', '*', 'f', 'v'])}`)
  const damaged = await xferd('kv', 'import', log, '--kv-dir', dir, '--json')
  t.is(damaged.code, 2)
  t.regex(JSON.parse(damaged.stdout).error.message, /offset 27.*XADD/)
  t.is((await xferd('kv', 'import', join(here, 'none'), '--kv-dir', dir)).code, 1)
  writeFileSync(log, `${resp(['SET', 'a', '1'])}*3\r\n$3\r\nSE`)
  const torn = await xferd('kv', 'import', log, '--kv-dir', dir)
  t.is(torn.stderr, `imported 1 key from 27 B into ${dir}; its last 10 B are torn off and were left out\n`)
})

const hasPython = !spawnSync('python3', ['--version']).error
const onTerminal = hasPython ? test.serial : test.skip

onTerminal('on a terminal it is a prompt that helps', async (t) => {
  const { url, kv } = await keys(t)
  const history = join(folder(t), 'made/history')
  const child = startOnTerminal({ XFERD_KV_HISTORY: history }, 'kv', url)
  t.teardown(() => child.kill('SIGKILL'))
  let seen = ''
  child.stdout?.on('data', (data) => {
    seen += data
  })
  const place = url.replace('kv://', '')
  const types = async (text: string, expected: string | RegExp): Promise<void> => {
    const before = seen.length
    child.stdin?.write(text)
    const matches = (): boolean => {
      const now = plain(seen.slice(before))
      return typeof expected === 'string' ? now.includes(expected) : expected.test(now)
    }
    await until(matches)
  }
  await types('', `${place}> `)
  await types('dbs\t', 'dbsize ')
  await types('\r', '(integer) 0')
  // What is missing is shown behind the cursor.
  await types('SET ', 'key value [NX | XX] [GET] [EX seconds')
  await types('k "a\\x00\\"ü"\r', 'OK')
  await types('get k\r', '"a\\x00\\"ü"')
  await types('get "not\r', '...> ')
  await types('closed"\r', '(nil)')
  await types('help get\r', '  GET key\r\n  Tells a string.')
  await types('DEL a ', '[key ...]')
  await types('b\r', '(integer) 0')
  await types('HSET h f v\r', '(integer) 1')
  await types('HGETALL h\r', '1# "f" => "v"')
  await types('ZADD z 1.5 a\r', '(integer) 1')
  await types('ZRANGE z 0 -1 WITHSCORES\r', '1) 1) "a"\r\n   2) (double) 1.5')
  await types('SELECT 3\r', `${place}[3]> `)
  await types('MULTI\r', `${place}[3](TX)> `)
  await types('INCR n\r', 'QUEUED')
  await types('EXEC\r', '1) (integer) 1')
  await types('SUBSCRIBE news\r', '1) "subscribe"')
  await kv.publish('news', 'today')
  await types('', '3) "today"')
  await types('\x03', `${place}[3]> `)
  await types('AUTH secret\r', '(error) ERR AUTH')
  await types('LPUSH', 'LPUSH')
  await types('\x03', '^C')
  await kv.clientKill({ type: 'normal' })
  await types('GET n\r', '"1"')
  child.stdin?.end('exit\r')
  await until(() => child.exitCode !== null)
  t.is(child.exitCode, 0)
  const lines = readFileSync(history, 'utf8').trimEnd().split('\n')
  t.true(lines.includes('HSET h f v') && !lines.some((line) => line.includes('secret')), lines.join('\n'))
  t.is(statSync(history).mode & 0o777, 0o600)
})

onTerminal('the prompt asks for a password, which nobody sees', async (t) => {
  const { url } = await keys(t, { password: 'secret' })
  const child = startOnTerminal({ XFERD_KV_HISTORY: join(folder(t), 'history') }, 'kv', url)
  t.teardown(() => child.kill('SIGKILL'))
  let seen = ''
  child.stdout?.on('data', (data) => {
    seen += data
  })
  await until(() => seen.includes('password: '))
  child.stdin?.write('secret\r')
  await until(() => seen.includes('> '))
  child.stdin?.end('PING\rexit\r')
  await until(() => child.exitCode !== null)
  t.true(seen.includes('PONG') && !seen.includes('secret'), seen)
})

onTerminal('the prompt remembers what was typed before, up to a limit', async (t) => {
  const { url } = await keys(t)
  const history = join(folder(t), 'history')
  writeFileSync(history, Array.from({ length: 1001 }, (_, i) => `ECHO ${i}\n`).join(''), { mode: 0o644 })
  const child = startOnTerminal({ XFERD_KV_HISTORY: history }, 'kv', url)
  t.teardown(() => child.kill('SIGKILL'))
  let seen = ''
  child.stdout?.on('data', (data) => {
    seen += data
  })
  await until(() => seen.includes('> '))
  child.stdin?.write('\x1b[A\r')
  await until(() => plain(seen).includes('"1000"'))
  child.stdin?.end('\x04')
  await until(() => child.exitCode !== null)
  const lines = readFileSync(history, 'utf8').trimEnd().split('\n')
  t.deepEqual([lines.length, lines[0], lines.at(-1)], [1001, 'ECHO 1', 'ECHO 1000'])
  t.is(statSync(history).mode & 0o777, 0o600)
  t.true(existsSync(history))
})

/** What a terminal shows, without how. */
function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what they begin with
  return text.replace(/\x1b\[[\d;]*[A-Za-z]/g, '')
}

function resp(words: string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`
}
