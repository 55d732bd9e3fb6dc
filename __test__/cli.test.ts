import { once } from 'node:events'
import { existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import {
  address,
  corruptingNetwork,
  folder,
  line,
  namesBelow,
  outcome,
  pair,
  randomFile,
  sameContent,
  stallingNetwork,
  startServer,
  startXferd,
  startXferdWith,
  underWay,
  until,
  xferd,
} from './fixture.js'

test('a file goes there and back, and the figures are on stdout', async (t) => {
  const { here, root, server } = await pair(t)
  const source = randomFile(join(here, 'source'), 5_000_000)
  const pushed = await xferd('push', source, `${address(server)}/d/`, '--json')
  t.is(pushed.code, 0, pushed.stderr)
  const figures = JSON.parse(pushed.stdout)
  t.deepEqual(Object.keys(figures), [
    'files',
    'bytes',
    'unchanged',
    'unchanged_bytes',
    'resumed_bytes',
    'seconds',
    'mb_per_s',
    'digest',
    'write_paths',
    'clients',
    'backend',
    'cpu_s',
    'max_rss_bytes',
  ])
  t.is(figures.files, 1)
  t.is(figures.bytes, 5_000_000)
  t.is(figures.clients, 1)
  t.regex(figures.digest, /^crc64nvme:[0-9a-f]{16}$/)
  t.true(figures.seconds > 0 && figures.cpu_s > 0 && figures.max_rss_bytes > 1e6)
  t.is(figures.mb_per_s, 5 / figures.seconds)
  t.true(sameContent(source, join(root, 'd/source')))

  const pulled = await xferd('pull', `${address(server)}/d/source`, join(here, 'copy'), '--json')
  t.is(pulled.code, 0, pulled.stderr)
  t.is(JSON.parse(pulled.stdout).digest, figures.digest)
  t.true(sameContent(source, join(here, 'copy')))
})

test('without --json stdout stays empty and stderr sums up, unless it is to be quiet', async (t) => {
  const { here, server } = await pair(t)
  const source = randomFile(join(here, 'source'), 5_000_000)
  const plain = await xferd('push', source, `${address(server)}/a`)
  t.is(plain.stdout, '')
  t.regex(plain.stderr, /^pushed 1 file, 5\.0 MB in [\d.]+ s, [\d.]+ MB\/s \(crc64nvme:[0-9a-f]+\)\n$/)
  const quiet = await xferd('push', source, `${address(server)}/b`, '--quiet')
  t.is(quiet.stdout + quiet.stderr, '')
  const dry = await xferd('push', source, `${address(server)}/c`, '--dry-run')
  t.regex(dry.stderr, /^would have pushed 1 file, 5\.0 MB/)
})

test('--progress jsonl prints an object a line on stderr, the last with everything', async (t) => {
  const { here, server } = await pair(t)
  const source = randomFile(join(here, 'source'), 5_000_000)
  const { stderr } = await xferd('push', source, `${address(server)}/a`, '--progress', 'jsonl', '--json')
  const last = JSON.parse(stderr.trimEnd().split('\n').at(-1) as string)
  t.is(last.bytes, 5_000_000)
  t.is(last.total, 5_000_000)
})

test('bars show bytes, rate, time left and files, and no colour', async (t) => {
  const { here, server } = await pair(t)
  const source = randomFile(join(here, 'source'), 5_000_000)
  const { stderr } = await xferd('push', source, `${address(server)}/a`, '--progress', 'tty')
  t.regex(stderr, /█+ 5\.0 MB of 5\.0 MB, [\d.]+ MB\/s, 0:00 left, 1\/1 files/)
  t.false(stderr.includes('\x1b[3'))
})

test('several clients make several copies', async (t) => {
  const { here, root, server } = await pair(t)
  const source = randomFile(join(here, 'source'), 100_000)
  const { stdout } = await xferd(
    'push',
    source,
    `${address(server)}/copy`,
    '--clients',
    '3',
    '--mmap',
    '--json',
  )
  t.is(JSON.parse(stdout).clients, 3)
  t.is(JSON.parse(stdout).bytes, 300_000)
  t.deepEqual(namesBelow(root), ['copy.0', 'copy.1', 'copy.2'])
})

test('a tree is sent with and without some of it', async (t) => {
  const { here, root, server } = await pair(t)
  for (const name of ['a.txt', 'b.tmp', 'd/c.txt']) randomFile(join(here, 'tree', name), 10)
  const args = [
    'push',
    join(here, 'tree'),
    `${address(server)}/x`,
    '--exclude',
    '**/*.tmp',
    '--exclude',
    '*.tmp',
  ]
  const { code, stderr } = await xferd(...args, '--streams', '2')
  t.is(code, 0, stderr)
  t.deepEqual(namesBelow(root), ['x', 'x/a.txt', 'x/d', 'x/d/c.txt'])
})

test('ls, stat, mv, mkdir and rm do what they are called after', async (t) => {
  const { root, server } = await pair(t)
  const at = (path: string): string => `${address(server)}/${path}`
  randomFile(join(root, 'f'), 1_500_000)
  t.is((await xferd('mkdir', at('a/b'), at('c'))).code, 0)
  t.is((await xferd('mv', at('f'), at('a/g'))).code, 0)
  const listed = await xferd('ls', at('a'))
  t.regex(listed.stdout, /^drwx.* b\n-rw-.{6} +1\.5 MB {2}\d{4}-\d\d-\d\d \d\d:\d\d {2}g\n$/)
  const { entries } = JSON.parse((await xferd('ls', at(''), '-r', '--json')).stdout)
  t.deepEqual(
    entries.map(({ path }: { path: string }) => path),
    ['a', 'a/b', 'a/g', 'c'],
  )
  const entry = JSON.parse((await xferd('stat', at('a/g'), '--json')).stdout)
  t.is(entry.size, 1_500_000)
  t.is(entry.kind, 'file')
  t.is((await xferd('rm', at('a'))).code, 1)
  t.deepEqual(JSON.parse((await xferd('rm', at('a'), at('c'), '-r', '--json')).stdout), {
    removed: ['a', 'c'],
  })
  t.deepEqual(namesBelow(root), [])
})

test('a wrong command line ends with 2, and with an object if one was asked for', async (t) => {
  for (const args of [
    ['push'],
    ['push', 'source'],
    ['push', 'source', 'http://example.org/x'],
    ['push', 'source', 'xfer://host/x', '--clients', '0'],
    ['push', 'source', 'xfer://host/x', '--digest', 'md5'],
    ['push', 'source', 'xfer://host/x', '--no-such-flag'],
    ['pull', 'xfer://one/x', 'xfer://two/x', 'here'],
    ['serve', '--port', '1', '--listen', 'xfer://127.0.0.1:1'],
  ]) {
    const plain = await xferd(...args)
    t.is(plain.code, 2, args.join(' '))
    t.regex(plain.stderr, /^xferd: \S/)
    t.is(plain.stdout, '')
    const { code, stdout } = await xferd(...args, '--json')
    t.is(code, 2)
    const { error } = JSON.parse(stdout)
    t.deepEqual(Object.keys(error), ['code', 'message', 'retryable'])
    t.is(error.code, 'INVALID_ARGUMENT')
  }
})

test('a backend in the environment that there is not ends with 2 and says which there are', async (t) => {
  for (const args of [
    ['serve', folder(t), '--port', '0'],
    ['ls', 'xfer://127.0.0.1:1'],
  ]) {
    const { code, stderr } = await outcome(startXferdWith({ XFERD_BACKEND: 'epoll' }, ...args))
    t.is(code, 2, stderr)
    t.regex(stderr, /^xferd: XFERD_BACKEND is "epoll".* give one of auto, mio, uring/)
  }
})

test('a failure ends with 1 and names the thing', async (t) => {
  const { here, server } = await pair(t)
  const { code, stderr } = await xferd('pull', `${address(server)}/missing`, here)
  t.is(code, 1)
  t.regex(stderr, /^xferd: .*missing/)
})

test('a server that is not there ends with 5 and says what to do', async (t) => {
  const { code, stderr } = await xferd('ls', 'xfer://127.0.0.1:1')
  t.is(code, 5)
  t.regex(stderr, /^xferd: .*xfer:\/\/127\.0\.0\.1:1\b.*refused.*xferd serve/)
})

test('bytes that change on the way end with 4, and nothing is stored', async (t) => {
  const { here, root, server } = await pair(t)
  const network = await corruptingNetwork(t, address(server), 2_000_000)
  const source = randomFile(join(here, 'source'), 4_000_000)
  const { code, stdout } = await xferd('push', source, `${network.address}/copy`, '--json')
  t.is(code, 4)
  t.is(JSON.parse(stdout).error.code, 'DIGEST_MISMATCH')
  t.deepEqual(namesBelow(root), [])
})

test('a transfer that is partly done ends with 6 and tells both parts', async (t) => {
  const { here, root, server } = await pair(t)
  const source = randomFile(join(here, 'source'), 10)
  const { code, stdout } = await xferd(
    'push',
    source,
    join(here, 'missing'),
    `${address(server)}/d`,
    '--json',
  )
  t.is(code, 6)
  const { error, files, failed, failures } = JSON.parse(stdout)
  t.is(error.code, 'PARTIAL')
  t.is(files, 1)
  t.is(failed, 1)
  t.is(failures[0].error.code, 'NOT_FOUND')
  t.deepEqual(namesBelow(root), ['d', 'd/source'])
})

test('an interrupted push ends with 130, says so in one object and leaves nothing', async (t) => {
  const { here, root, server } = await pair(t)
  const network = await stallingNetwork(t, address(server), 4_000_000)
  const source = randomFile(join(here, 'source'), 64_000_000)
  const child = startXferd('push', source, `${network.address}/copy`, '--progress', 'jsonl', '--json')
  const ended = outcome(child)
  await underWay(child)
  child.kill('SIGINT')
  const { code, stdout } = await ended
  t.is(code, 130)
  t.is(JSON.parse(stdout).error.code, 'ABORTED')
  network.heal()
  await until(() => namesBelow(root).length === 0)
})

test('serve tells where it listens and what happens, and stops when asked', async (t) => {
  const here = folder(t)
  const root = folder(t)
  const { child, address, events } = await startServer(t, root, '-i', '1', '-w', '0')
  const ended = once(child, 'close')
  t.is(events[0]?.event, 'listening')
  await xferd('push', randomFile(join(here, 'f'), 1000), `${address}/f`)
  await until(() => events.some(({ event }) => event === 'stored'))
  const stored = events.find(({ event }) => event === 'stored')
  t.is(stored?.path, 'f')
  t.is(stored?.bytes, 1000)
  child.kill('SIGTERM')
  t.deepEqual(await ended, [0, null])
  t.is(events.at(-1)?.event, 'stopped')
  t.is(events.at(-1)?.filesReceived, 1)
})

test('serve lets a transfer finish after the first signal', async (t) => {
  const here = folder(t)
  const root = folder(t)
  const { child, address, events } = await startServer(t, root, '--grace', '60')
  const ended = once(child, 'close')
  const network = await stallingNetwork(t, address, 4_000_000)
  const source = randomFile(join(here, 'source'), 30_000_000)
  const push = startXferd('push', source, `${network.address}/copy`, '--progress', 'jsonl')
  const pushing = outcome(push)
  await underWay(push)
  child.kill('SIGINT')
  await until(() => events.some(({ event }) => event === 'stopping'))
  network.heal()
  t.is((await pushing).code, 0)
  t.deepEqual(await ended, [0, null])
  t.true(sameContent(source, join(root, 'copy')))
})

test('serve ends at once at the second signal', async (t) => {
  const here = folder(t)
  const root = folder(t)
  const { child, address, events } = await startServer(t, root, '--grace', '3600')
  const ended = once(child, 'close')
  const network = await stallingNetwork(t, address, 4_000_000)
  const source = randomFile(join(here, 'source'), 1)
  truncateSync(source, 30_000_000)
  const push = startXferd('push', source, `${network.address}/copy`, '--progress', 'jsonl')
  const pushing = outcome(push)
  await underWay(push)
  child.kill('SIGINT')
  await until(() => events.some(({ event }) => event === 'stopping'))
  child.kill('SIGINT')
  t.deepEqual(await ended, [130, null])
  t.is((await pushing).code, 5)
  t.false(existsSync(join(root, 'copy')))
})

test('serve refuses an address that others can reach unless it is insecure', async (t) => {
  const root = folder(t)
  const refused = await xferd('serve', root, '--listen', 'xfer://0.0.0.0:0')
  t.is(refused.code, 2)
  t.regex(refused.stderr, /--insecure/)
  const child = startXferd('serve', root, '--listen', 'xfer://0.0.0.0:0', '--insecure')
  t.teardown(() => child.kill('SIGKILL'))
  t.regex(await line(child.stderr), /serving .* on xfer:\/\/0\.0\.0\.0:\d+/)
})

test('serve and push say on which backend they are, and refuse an unknown one', async (t) => {
  const root = folder(t)
  const child = startXferd('serve', root, '--port', '0', '--backend', 'mio')
  t.teardown(() => child.kill('SIGKILL'))
  const address = / on (xfer:\S+) with mio$/.exec(await line(child.stderr))?.[1]
  const source = randomFile(join(folder(t), 'f'), 1000)
  const { stdout } = await xferd('push', source, `${address}/f`, '--backend', 'mio', '--json')
  t.is(JSON.parse(stdout).backend, 'mio')
  const unknown = await xferd('serve', root, '--backend', 'epoll')
  t.is(unknown.code, 2)
  t.regex(unknown.stderr, /auto, mio, uring/)
})

test('serve refuses a root that is not a folder', async (t) => {
  const file = randomFile(join(folder(t), 'f'), 1)
  const { code, stderr } = await xferd('serve', file, '--port', '0')
  t.is(code, 1)
  t.regex(stderr, /^xferd: .*f/)
})

test('a read-only server refuses a push', async (t) => {
  const here = folder(t)
  const root = folder(t)
  const { address } = await startServer(t, root, '--read-only')
  const { code, stdout } = await xferd('push', randomFile(join(here, 'f'), 1), `${address}/f`, '--json')
  t.is(code, 1)
  t.is(JSON.parse(stdout).error.code, 'READ_ONLY')
})

test('names are taken as they are typed', async (t) => {
  const { here, root, server } = await pair(t)
  writeFileSync(join(here, 'f'), 'content')
  const name = '100%25 #1? ü.txt'
  t.is((await xferd('push', join(here, 'f'), `${address(server)}/${name}`)).code, 0)
  t.is(readFileSync(join(root, name), 'utf8'), 'content')
})

test('the help opens with what a command is for and examples, and tells the exit codes', async (t) => {
  for (const command of ['serve', 'push', 'pull', 'ls', 'stat', 'rm', 'mv', 'mkdir', 'bench']) {
    const { code, stdout } = await xferd(command, '--help')
    t.is(code, 0)
    t.regex(stdout, /^[A-Z][^\n]+\.\n\nEXAMPLES\n/, command)
    t.regex(stdout, /EXIT CODES\n +0 {2}done\n/)
    t.regex(stdout, /--json/)
  }
})

test('--version tells the version', async (t) => {
  const { stdout } = await xferd('--version')
  t.regex(stdout, /^xferd\/\d+\.\d+\.\d+ /)
})
