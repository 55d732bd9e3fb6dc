import { once } from 'node:events'
import { createReadStream, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { connect } from 'xferd'
import {
  address,
  namesBelow,
  pair,
  randomFile,
  sameContent,
  settled,
  stallingNetwork,
  until,
} from './fixture.js'

const HUGE_BYTES = 512 * 1024 * 1024
/** Of memory, for a file four times as large: room for the buffers of both sides and the garbage collector's. */
const GROWTH_BYTES_MAX = 128 * 1024 * 1024

test('a file is read as a stream', async (t) => {
  const { client, root } = await pair(t)
  const source = randomFile(join(root, 'f'), 10_000_000)
  const stream = client.readStream('f')
  t.true(Buffer.concat(await stream.toArray()).equals(readFileSync(source)))
  t.is(stream.size, 10_000_000)
})

test('a range is read with its end included, as in fs.createReadStream', async (t) => {
  const { client, root } = await pair(t)
  writeFileSync(join(root, 'f'), '0123456789')
  const read = async (range: { start?: number; end?: number }): Promise<string> =>
    Buffer.concat(await client.readStream('f', range).toArray()).toString()
  for (const range of [
    { start: 2, end: 5 },
    { start: 9, end: 9 },
    { start: 3 },
    { end: 0 },
    { start: 5, end: 99 },
  ]) {
    t.is(
      await read(range),
      Buffer.concat(await createReadStream(join(root, 'f'), range).toArray()).toString(),
    )
  }
})

test('an empty file is an empty stream', async (t) => {
  const { client, root } = await pair(t)
  writeFileSync(join(root, 'f'), '')
  t.deepEqual(await client.readStream('f').toArray(), [])
})

test('a file is written as a stream and has its name when it is whole', async (t) => {
  const { client, here, root } = await pair(t)
  const source = randomFile(join(here, 'source'), 10_000_000)
  const stream = client.writeStream('d/f')
  await pipeline(createReadStream(source), stream)
  t.true(sameContent(source, join(root, 'd/f')))
  t.is(stream.receipt?.bytes, 10_000_000)
  t.regex(stream.receipt?.digest ?? '', /^crc64nvme:/)
})

test('chunks of every size are written', async (t) => {
  const { client, root } = await pair(t)
  const chunks = [1, 100, 65_536, 1, 20_000_000, 3].map((bytes) => Buffer.alloc(bytes, bytes % 251))
  await pipeline(Readable.from(chunks), client.writeStream('f'))
  t.true(readFileSync(join(root, 'f')).equals(Buffer.concat(chunks)))
  await pipeline(Readable.from([]), client.writeStream('empty'))
  t.is(readFileSync(join(root, 'empty')).length, 0)
})

test('web streams carry files both ways', async (t) => {
  const { client, here, root } = await pair(t)
  const source = randomFile(join(here, 'source'), 10_000_000)
  await Readable.toWeb(createReadStream(source)).pipeTo(client.writableStream('f'))
  t.true(sameContent(source, join(root, 'f')))
  const chunks: Uint8Array[] = []
  for await (const chunk of client.readableStream('f')) chunks.push(chunk)
  t.true(Buffer.concat(chunks).equals(readFileSync(source)))
})

test('a stream of what is not there fails', async (t) => {
  const { client, root } = await pair(t)
  await t.throwsAsync(client.readStream('missing').toArray(), { code: 'NOT_FOUND' })
  randomFile(join(root, 'f'), 1)
  await t.throwsAsync(pipeline(Readable.from(['x']), client.writeStream('f/below')), {
    code: 'NOT_A_DIRECTORY',
  })
})

test('a write stream that is destroyed leaves nothing behind', async (t) => {
  const { client, root } = await pair(t)
  writeFileSync(join(root, 'f'), 'as it was')
  const stream = client.writeStream('f')
  await new Promise((resolve) => stream.write(Buffer.alloc(5_000_000), resolve))
  stream.destroy()
  await once(stream, 'close')
  await until(() => namesBelow(root).length === 1)
  t.is(readFileSync(join(root, 'f'), 'utf8'), 'as it was')
})

test('an aborted stream is destroyed with ABORTED', async (t) => {
  const { client, root } = await pair(t)
  truncateSync(randomFile(join(root, 'f'), 1), HUGE_BYTES)
  const controller = new AbortController()
  const stream = client.readStream('f', { signal: controller.signal })
  await once(stream, 'readable')
  controller.abort('enough')
  const [error] = await once(stream, 'error')
  t.is(error.code, 'ABORTED')
  t.is(error.cause, 'enough')
})

for (const kind of ['node', 'web'] as const) {
  test.serial(`a slow reader of a ${kind} stream does not fill the memory`, async (t) => {
    const { client, root } = await pair(t)
    truncateSync(randomFile(join(root, 'f'), 1), HUGE_BYTES)
    const before = process.memoryUsage().rss
    let peak = before
    let bytes = 0
    const stream = kind === 'node' ? client.readStream('f') : client.readableStream('f')
    for await (const chunk of stream) {
      if (bytes < 20_000_000) await sleep(20)
      bytes += chunk.length
      peak = Math.max(peak, process.memoryUsage().rss)
    }
    t.is(bytes, HUGE_BYTES)
    t.true(peak - before < GROWTH_BYTES_MAX, `grew by ${peak - before} bytes`)
  })

  test.serial(`a stalled server stops the writer of a ${kind} stream, without loss`, async (t) => {
    const { root, server } = await pair(t)
    const network = await stallingNetwork(t, address(server), 4_000_000)
    await using client = await connect(network.address)
    const chunk = Buffer.alloc(1_000_000, 7)
    let produced = 0
    const source = Readable.from(
      (function* () {
        for (; produced < HUGE_BYTES; produced += chunk.length) yield chunk
      })(),
    )
    const written =
      kind === 'node'
        ? pipeline(source, client.writeStream('f'))
        : Readable.toWeb(source, { strategy: { highWaterMark: 1 } }).pipeTo(client.writableStream('f'))
    t.true((await settled(() => produced)) < 64_000_000)
    const before = process.memoryUsage().rss
    network.heal()
    await written
    t.true(process.memoryUsage().rss - before < GROWTH_BYTES_MAX)
    t.is((await client.stat('f')).size, produced)
    t.deepEqual(namesBelow(root), ['f'])
  })
}
