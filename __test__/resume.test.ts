import { once } from 'node:events'
import { utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { connect } from 'xferd'
import {
  address,
  folder,
  namesBelow,
  pair,
  randomFile,
  sameContent,
  stallingNetwork,
  startServer,
  startXferd,
  until,
  xferd,
} from './fixture.js'

const BYTES = 80_000_000
/** What a file is sent in. What one connection has on its way is lost when it breaks: at most two of them. */
const EXTENT_BYTES = 8 << 20

/** A push of `source` that has come about half of the way and stays there. */
async function halfway(
  t: Parameters<typeof stallingNetwork>[0],
  source: string,
  to: string,
  ...flags: string[]
) {
  const network = await stallingNetwork(t, to, BYTES / 2)
  const child = startXferd(
    'push',
    source,
    `${network.address}/d/`,
    '--resume',
    '--progress',
    'jsonl',
    ...flags,
  )
  t.teardown(() => child.kill('SIGKILL'))
  let bytes = 0
  child.stderr?.on('data', (data) => {
    for (const [, moved] of String(data).matchAll(/"bytes":(\d+)/g)) bytes = Number(moved)
  })
  // What is on its way when nothing moves any more is not acknowledged.
  await until(() => bytes >= BYTES / 2 - 3 * EXTENT_BYTES)
  return { child, moved: () => bytes }
}

for (const streams of [1, 4]) {
  test(`a push over ${streams} connections that was killed is gone on with`, async (t) => {
    const { here, root, server } = await pair(t)
    const source = randomFile(join(here, 'source'), BYTES)
    const { child, moved } = await halfway(t, source, address(server), '--streams', `${streams}`)
    child.kill('SIGKILL')
    await once(child, 'close')
    const again = await xferd('push', source, `${address(server)}/d/`, '--resume', '--json')
    t.is(again.code, 0, again.stderr)
    const figures = JSON.parse(again.stdout)
    t.is(figures.bytes, BYTES)
    t.true(figures.resumed_bytes >= moved() && figures.resumed_bytes < BYTES, again.stdout)
    t.true(sameContent(source, join(root, 'd/source')))
    t.deepEqual(namesBelow(root), ['d', 'd/source'])
  })
}

test('a push whose server was killed is gone on with by the next one', async (t) => {
  const root = folder(t)
  const source = randomFile(join(folder(t), 'source'), BYTES)
  const first = await startServer(t, root)
  const { child, moved } = await halfway(t, source, first.address)
  first.child.kill('SIGKILL')
  await once(first.child, 'close')
  child.kill('SIGKILL')
  const second = await startServer(t, root)
  t.is((await xferd('ls', second.address, '--json')).stdout.includes('.xferd'), false)
  const again = await xferd('push', source, `${second.address}/d/`, '--resume')
  t.is(again.code, 0, again.stderr)
  t.true(moved() > 0)
  t.regex(again.stderr, /^pushed 1 file, 80\.0 MB, [\d.]+ MB of it there already, in [\d.]+ s, [\d.]+ MB\/s/)
  t.true(sameContent(source, join(root, 'd/source')))
  t.deepEqual(namesBelow(root), ['d', 'd/source'])
})

test('a push goes on by itself when its server comes back at the same address', async (t) => {
  const root = folder(t)
  const source = randomFile(join(folder(t), 'source'), BYTES)
  const first = await startServer(t, root)
  const port = new URL(first.address).port
  await using client = await connect(first.address)
  const transfer = client.push(source, 'copy', { resume: true, streams: 2 })
  for await (const { bytes } of transfer) {
    if (bytes === 0) continue
    first.child.kill('SIGKILL')
    await once(first.child, 'close')
    const again = startXferd('serve', root, '--port', port, '--json')
    t.teardown(() => again.kill('SIGKILL'))
    break
  }
  const receipt = await transfer
  t.is(receipt.bytes, BYTES)
  t.true(sameContent(source, join(root, 'copy')))
})

test('a file that changed meanwhile starts over', async (t) => {
  const { here, root, server } = await pair(t)
  const source = randomFile(join(here, 'source'), BYTES)
  const { child } = await halfway(t, source, address(server))
  child.kill('SIGKILL')
  await once(child, 'close')
  writeFileSync(source, 'other', { flag: 'r+' })
  utimesSync(source, 1e9, 1e9)
  const again = await xferd('push', source, `${address(server)}/d/`, '--resume', '--json')
  t.is(JSON.parse(again.stdout).resumed_bytes, 0)
  t.true(sameContent(source, join(root, 'd/source')))
})

test('one large file goes over several connections', async (t) => {
  const { here, root, server, client } = await pair(t)
  const source = randomFile(join(here, 'source'), BYTES)
  const receipt = await client.push(source, 'copy', { streams: 4 })
  t.is(receipt.bytes, BYTES)
  t.is(receipt.resumedBytes, 0)
  t.is(server.stats().accepted, 4)
  t.true(sameContent(source, join(root, 'copy')))
})

test('what cannot be resumed is said before anything is sent', async (t) => {
  const { here, client } = await pair(t)
  const source = randomFile(join(here, 'source'), 10)
  await t.throwsAsync(async () => client.push(source, 'copy', { resume: true, digest: 'blake3' }), {
    code: 'INVALID_ARGUMENT',
    message: /crc64nvme/,
  })
})
