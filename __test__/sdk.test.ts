import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { connect, type Progress, serve, Transfer, XferdError } from 'xferd'
import {
  address,
  folder,
  namesBelow,
  pair,
  randomFile,
  receivesInto,
  runScript,
  sameContent,
  stallingNetwork,
  until,
} from './fixture.js'

test('the example of the README works as it stands', async (t) => {
  const here = folder(t)
  mkdirSync(join(here, 'inbox'))
  randomFile(join(here, 'movie.mkv'), 3_000_000)
  // Node 20 has no `await using`: closing by hand is all that differs.
  const { code, stdout, stderr } = await runScript(
    `
    import { serve, connect } from 'xferd'
    process.chdir(process.argv[1])
    const { signal } = new AbortController()
    const server = await serve({ root: './inbox', listen: ['xfer://127.0.0.1:0'] })
    const client = await connect(server.addresses[0])
    const transfer = client.push('movie.mkv', 'in/movie.mkv', { mmap: true, signal })
    for await (const p of transfer) console.error(p.bytes, p.total, p.bytesPerSecond)
    const receipt = await transfer
    await client.pull('in/movie.mkv', 'copy.mkv')
    await client[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
    console.log(JSON.stringify(receipt))
    `,
    here,
  )
  t.is(code, 0, stderr)
  const { files, bytes, digest, seconds } = JSON.parse(stdout)
  t.is(files, 1)
  t.is(bytes, 3_000_000)
  t.regex(digest, /^crc64nvme:[0-9a-f]{16}$/)
  t.true(seconds > 0)
  t.true(sameContent(join(here, 'movie.mkv'), join(here, 'inbox/in/movie.mkv')))
  t.true(sameContent(join(here, 'movie.mkv'), join(here, 'copy.mkv')))
})

test('import and require give the same classes', async (t) => {
  const { stdout } = await runScript(`
    import { createRequire } from 'node:module'
    import * as esm from 'xferd'
    const cjs = createRequire(process.cwd() + '/')('xferd')
    console.log(Object.keys(esm).sort().join(), Object.keys(esm).every((name) => esm[name] === cjs[name]))
  `)
  t.is(
    stdout,
    'Address,CEILING_WAYS,Client,DEFAULT_PORT,KV_DEFAULT_PORT,KvClient,KvFeed,Server,Transfer,XferdError,connect,connectKv,importKeys,measureCeiling,measureKv,serve true\n',
  )
})

for (const digest of ['crc64nvme', 'blake3', 'none'] as const) {
  test(`a file goes there and back with digest ${digest}`, async (t) => {
    const { client, here, root } = await pair(t)
    const source = randomFile(join(here, 'source'), 5_000_001)
    const pushed = await client.push(source, 'a/b', { digest })
    const pulled = await client.pull('a/b', join(here, 'copy'), { digest })
    t.true(sameContent(source, join(root, 'a/b')))
    t.true(sameContent(source, join(here, 'copy')))
    t.is(pushed.digest, pulled.digest)
    t.is(pushed.digest?.split(':')[0], digest === 'none' ? undefined : digest)
  })
}

for (const workers of [0, 1, 3]) {
  test(`file work on ${workers} workers gives the same result`, async (t) => {
    const { here, root, server } = await pair(t, { workers })
    await using client = await connect(address(server), { workers })
    const source = randomFile(join(here, 'source'), 9_000_000)
    await client.push(source, 'copy')
    await client.pull('copy', join(here, 'back'))
    t.true(sameContent(source, join(root, 'copy')))
    t.true(sameContent(source, join(here, 'back')))
  })
}

test('an existing file is replaced by its successor', async (t) => {
  const { client, here, root } = await pair(t)
  writeFileSync(join(root, 'name'), 'old and longer')
  writeFileSync(join(here, 'new'), 'new')
  await client.push(join(here, 'new'), 'name')
  t.is(readFileSync(join(root, 'name'), 'utf8'), 'new')
})

test('a target with a trailing slash is a folder, and so is one for several sources', async (t) => {
  const { client, here, root } = await pair(t)
  const a = randomFile(join(here, 'a'), 10)
  const b = randomFile(join(here, 'b'), 10)
  await client.push(a, 'x/')
  await client.push([a, b], 'y')
  await client.push(a, '')
  t.deepEqual(namesBelow(root), ['a', 'x', 'x/a', 'y', 'y/a', 'y/b'])
})

test('several paths are pulled into a folder', async (t) => {
  const { client, here, root } = await pair(t)
  randomFile(join(root, 'a'), 10)
  randomFile(join(root, 'd/b'), 10)
  const receipt = await client.pull(['a', 'd/b'], join(here, 'in'))
  t.is(receipt.files, 2)
  t.deepEqual(namesBelow(join(here, 'in')), ['a', 'b'])
})

test('folders and files are listed, described, made, renamed and removed', async (t) => {
  const { client, root } = await pair(t)
  await client.makeDir('d/e')
  await client.makeDir('d/e')
  randomFile(join(root, 'd/f'), 42)
  const listed = await client.list('d')
  t.deepEqual(listed.map(({ path, kind }) => [path, kind]).sort(), [
    ['e', 'directory'],
    ['f', 'file'],
  ])
  t.deepEqual((await client.list('', { recursive: true })).map(({ path }) => path).sort(), [
    'd',
    'd/e',
    'd/f',
  ])
  const { size, kind, mtime } = await client.stat('d/f')
  t.is(size, 42)
  t.is(kind, 'file')
  t.true(mtime instanceof Date)
  await client.rename('d/f', 'g')
  t.deepEqual(namesBelow(root), ['d', 'd/e', 'g'])
  await client.remove('g')
  await client.remove('d', { recursive: true })
  t.deepEqual(namesBelow(root), [])
})

test('failures have a stable code', async (t) => {
  const { client, here, root } = await pair(t)
  mkdirSync(join(root, 'full/inside'), { recursive: true })
  const code = async (promise: PromiseLike<unknown>): Promise<unknown> => {
    const error = await t.throwsAsync<XferdError>(async () => promise, { instanceOf: XferdError })
    return error?.code
  }
  t.is(await code(client.stat('missing')), 'NOT_FOUND')
  t.is(await code(client.stat('../etc')), 'BAD_PATH')
  t.is(await code(client.pull('missing', join(here, 'x'))), 'NOT_FOUND')
  t.is(await code(client.push(join(here, 'missing'), 'x')), 'NOT_FOUND')
  t.is(await code(client.remove('full')), 'DIRECTORY_NOT_EMPTY')
  t.is(await code(client.list('missing')), 'NOT_FOUND')
  t.is(await code(client.push(randomFile(join(here, 'f'), 1), 'full')), 'NOT_A_FILE')
  t.is(await code(connect('http://example.org')), 'INVALID_ARGUMENT')
  t.is(await code(connect('xfer://127.0.0.1:1')), 'CONNECTION_REFUSED')
  t.is(await code(serve({ root: join(here, 'missing'), listen: ['xfer://127.0.0.1:0'] })), 'NOT_FOUND')
  t.is(await code(serve({ root: here, listen: ['xfer://0.0.0.0:0'] })), 'INVALID_ARGUMENT')
})

test('a server on a Unix socket takes its owner alone unless told otherwise, and takes the socket with it', async (t) => {
  const here = folder(t)
  const socket = join(here, 'socket')
  for (const [question, mode] of [
    ['', 0o600],
    ['?mode=0660', 0o660],
  ] as const) {
    const server = await serve({ root: folder(t), listen: [`xfer+unix://${socket}${question}`] })
    t.teardown(() => server.close({ graceMs: 0 }))
    t.deepEqual(server.addresses, [`xfer+unix://${socket}`])
    t.is(statSync(socket).mode & 0o777, mode)
    const client = await connect(address(server))
    t.teardown(() => client.close())
    t.is(client.address, `xfer+unix://${socket}`)
    const source = randomFile(join(here, 'f'), 3_000_000)
    await client.push(source, 'f')
    await client.pull('f', join(here, 'g'))
    t.true(sameContent(source, join(here, 'g')))
    await server.close()
    t.false(existsSync(socket))
  }
  const code = async (promise: Promise<unknown>) =>
    (await t.throwsAsync<XferdError>(promise, { instanceOf: XferdError })).code
  t.is(await code(connect(`xfer+unix://${socket}`)), 'CONNECTION_REFUSED')
  t.is(await code(connect(`xfer+unix://${socket}?mode=0660`)), 'INVALID_ARGUMENT')
  for (const wrong of [`${socket}?mode=rw`, `${socket}?user=root`, 'relative', join(here, 's'.repeat(108))])
    t.is(await code(serve({ root: here, listen: [`xfer+unix://${wrong}`] })), 'INVALID_ARGUMENT', wrong)
})

test('server and client say what waits for their sockets, and why it is not io_uring', async (t) => {
  for (const backend of ['mio', 'auto'] as const) {
    const { server, here, root } = await pair(t, { backend })
    const client = await connect(address(server), { backend })
    t.teardown(() => client.close())
    for (const chosen of [server.backend, client.backend]) {
      if (backend === 'mio') t.deepEqual(chosen, { name: 'mio' })
      else t.is(chosen.name, chosen.reason === undefined ? 'uring' : 'mio')
    }
    t.is(server.stats().backend, server.backend.name)
    const source = randomFile(join(here, 'f'), 20_000_000)
    await client.push(source, 'f')
    await client.pull('f', join(here, 'g'))
    t.true(sameContent(source, join(root, 'f')) && sameContent(source, join(here, 'g')))
  }
  const unknown = { root: folder(t), backend: 'epoll' } as unknown as Parameters<typeof serve>[0]
  const error = await t.throwsAsync(() => serve(unknown), { code: 'INVALID_ARGUMENT' })
  t.regex(error?.message ?? '', /auto, mio, uring/)
})

test('a server that is read-only refuses changes and serves the rest', async (t) => {
  const { client, here, root } = await pair(t, { readOnly: true })
  randomFile(join(root, 'f'), 100)
  await t.throwsAsync(async () => client.push(join(root, 'f'), 'g'), { code: 'READ_ONLY' })
  await t.throwsAsync(() => client.remove('f'), { code: 'READ_ONLY' })
  await t.throwsAsync(() => client.rename('f', 'g'), { code: 'READ_ONLY' })
  await t.throwsAsync(() => client.makeDir('d'), { code: 'READ_ONLY' })
  await client.pull('f', join(here, 'f'))
  t.deepEqual(namesBelow(root), ['f'])
})

test('the last progress says that all is done', async (t) => {
  const { client, here } = await pair(t)
  const source = randomFile(join(here, 'source'), 20_000_000)
  let last: Progress | undefined
  for await (const progress of client.push(source, 'copy')) {
    t.true(progress.bytes >= (last?.bytes ?? 0))
    last = progress
  }
  t.is(last?.bytes, 20_000_000)
  t.is(last?.total, 20_000_000)
  t.is(last?.files, 1)
  t.is(last?.totalFiles, 1)
  t.is(last?.secondsLeft, 0)
})

test('a transfer that fails throws where it is iterated and where it is awaited', async (t) => {
  const { client, here } = await pair(t)
  const transfer = client.push(join(here, 'missing'), 'x')
  await t.throwsAsync(
    async () => {
      for await (const _ of transfer);
    },
    { code: 'NOT_FOUND' },
  )
  await t.throwsAsync(async () => transfer, { code: 'NOT_FOUND' })
})

test('a transfer that was iterated to its failure raises no unhandled rejection', async (t) => {
  const { code, stderr } = await runScript(
    `
    import { serve, connect } from 'xferd'
    const server = await serve({ root: process.argv[1], listen: ['xfer://127.0.0.1:0'] })
    const client = await connect(server.addresses[0])
    try { for await (const _ of client.pull('missing', 'x')); } catch {}
    await client.close()
    await server.close()
    `,
    folder(t),
  )
  t.is(code, 0, stderr)
})

test('a transfer is a Transfer', async (t) => {
  const { client, here } = await pair(t)
  const transfer = client.push(randomFile(join(here, 'f'), 1), 'f')
  t.true(transfer instanceof Transfer)
  t.is((await transfer).files, 1)
})

test('a server tells what happens', async (t) => {
  const { client, here, server } = await pair(t)
  const events = server.events()
  await client.push(randomFile(join(here, 'f'), 1000), 'f')
  for await (const { event, path, bytes } of events) {
    if (event !== 'stored') continue
    t.is(path, 'f')
    t.is(bytes, 1000)
    break
  }
  const { filesReceived, bytesReceived } = server.stats()
  t.is(filesReceived, 1)
  t.is(bytesReceived, 1000)
})

test('the events end when the server is closed', async (t) => {
  const { server } = await pair(t)
  const all = (async () => {
    for await (const _ of server.events());
  })()
  await server.close({ graceMs: 0 })
  await t.notThrowsAsync(all)
})

test('a server that is closed with grace lets a transfer finish', async (t) => {
  const { here, root, server } = await pair(t)
  const network = await stallingNetwork(t, address(server), 4_000_000)
  await using client = await connect(network.address)
  const source = randomFile(join(here, 'source'), 30_000_000)
  const transfer = client.push(source, 'copy')
  await until(() => receivesInto(root))
  const closing = server.close({ graceMs: 60_000 })
  network.heal()
  await transfer
  await closing
  t.true(sameContent(source, join(root, 'copy')))
})

test('closing a server again with no grace cuts a grace period short', async (t) => {
  const { here, root, server } = await pair(t)
  const network = await stallingNetwork(t, address(server), 4_000_000)
  await using client = await connect(network.address)
  const transfer = client.push(randomFile(join(here, 'source'), 30_000_000), 'copy')
  await until(() => receivesInto(root))
  const failure = t.throwsAsync(async () => transfer, { instanceOf: XferdError })
  const closing = server.close({ graceMs: 3_600_000 })
  await server.close({ graceMs: 0 })
  await closing
  t.true((await failure)?.retryable)
  t.false(existsSync(join(root, 'copy')))
})

test('calls on a closed client fail, and closing it again does not', async (t) => {
  const { client } = await pair(t)
  await client.close()
  await client.close()
  await t.throwsAsync(() => client.stat(''), { instanceOf: XferdError })
})

test('a host without an address is named', async (t) => {
  const error = await t.throwsAsync<XferdError>(() => connect('xfer://no-such-host.invalid'))
  t.true(['NOT_FOUND', 'CONNECTION_REFUSED'].includes(error?.code ?? ''), error?.code)
  t.regex(error?.message ?? '', /no-such-host\.invalid/)
})
