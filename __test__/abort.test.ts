import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { connect, type Transfer, XferdError } from 'xferd'
import { address, namesBelow, pair, randomFile, stallingNetwork, until } from './fixture.js'

const STALL_AFTER_BYTES = 4_000_000
const FILE_BYTES = 64_000_000

/** Aborts the transfer once bytes flow, and returns what it was rejected with. */
async function abortUnderWay(transfer: Transfer, abort: () => void): Promise<unknown> {
  for await (const { bytes } of transfer) if (bytes > 0) break
  abort()
  return transfer.then(
    () => undefined,
    (error: unknown) => error,
  )
}

test('an aborted push leaves nothing on the server, which goes on serving', async (t) => {
  const { client, here, root, server } = await pair(t)
  writeFileSync(join(root, 'copy'), 'as it was')
  const network = await stallingNetwork(t, address(server), STALL_AFTER_BYTES)
  await using stalled = await connect(network.address)
  const controller = new AbortController()
  const reason = new Error('changed my mind')
  const { signal } = controller
  const source = randomFile(join(here, 'source'), FILE_BYTES)
  const error = await abortUnderWay(stalled.push(source, 'copy', { signal }), () => controller.abort(reason))
  t.true(error instanceof XferdError)
  t.is((error as XferdError).code, 'ABORTED')
  t.is((error as XferdError).cause, reason)
  network.heal()
  await until(() => namesBelow(root).length === 1)
  t.is((await client.stat('copy')).size, 'as it was'.length)
  await client.push(source, 'again')
})

test('an aborted pull leaves nothing here', async (t) => {
  const { here, root, server } = await pair(t)
  randomFile(join(root, 'source'), FILE_BYTES)
  const network = await stallingNetwork(t, address(server), STALL_AFTER_BYTES)
  await using client = await connect(network.address)
  const transfer = client.pull('source', join(here, 'copy'))
  const error = await abortUnderWay(transfer, () => transfer.abort('enough'))
  t.is((error as XferdError).code, 'ABORTED')
  t.is((error as XferdError).cause, 'enough')
  t.deepEqual(namesBelow(here), [])
})

test('the server notices an abort although its client lives on', async (t) => {
  const { client, here, root, server } = await pair(t)
  const source = randomFile(join(here, 'source'), 1)
  truncateSync(source, 8_000_000_000)
  const transfer = client.push(source, 'copy', { digest: 'none' })
  await abortUnderWay(transfer, () => transfer.abort())
  await until(() => namesBelow(root).length === 0)
  await client.push(randomFile(join(here, 'small'), 10), 'small')
  t.is(server.stats().filesReceived, 1)
})

test('disposing of a transfer ends it', async (t) => {
  const { here, root, server } = await pair(t)
  randomFile(join(root, 'source'), FILE_BYTES)
  const network = await stallingNetwork(t, address(server), STALL_AFTER_BYTES)
  await using client = await connect(network.address)
  const transfer = client.pull('source', join(here, 'copy'))
  for await (const { bytes } of transfer) if (bytes > 0) break
  await transfer[Symbol.asyncDispose]()
  await t.throwsAsync(async () => transfer, { code: 'ABORTED' })
  t.deepEqual(namesBelow(here), [])
})

test('closing a client aborts what is under way', async (t) => {
  const { here, root, server } = await pair(t)
  const network = await stallingNetwork(t, address(server), STALL_AFTER_BYTES)
  const client = await connect(network.address)
  const transfer = client.push(randomFile(join(here, 'source'), FILE_BYTES), 'copy')
  const error = await abortUnderWay(transfer, () => void client.close())
  t.is((error as XferdError).code, 'ABORTED')
  network.heal()
  await until(() => namesBelow(root).length === 0)
})

test('a signal that was aborted before keeps every call from starting', async (t) => {
  const { client, here, root, server } = await pair(t)
  const signal = AbortSignal.abort('too late')
  const source = randomFile(join(here, 'source'), 10)
  const calls: (() => PromiseLike<unknown>)[] = [
    () => client.push(source, 'copy', { signal }),
    () => client.pull('copy', here, { signal }),
    () => client.list('', { signal }),
    () => client.stat('', { signal }),
    () => client.makeDir('d', { signal }),
    () => client.rename('a', 'b', { signal }),
    () => client.remove('a', { signal }),
    () => connect(address(server), { signal }),
    () => client.readStream('a', { signal }).toArray(),
  ]
  for (const call of calls) {
    const error = await t.throwsAsync<XferdError>(async () => call(), { code: 'ABORTED' })
    t.is(error?.cause, 'too late')
  }
  t.deepEqual(namesBelow(root), [])
})

test('a signal aborts a call that gets no answer', async (t) => {
  const { server } = await pair(t)
  const controller = new AbortController()
  const network = await stallingNetwork(t, address(server), 0)
  const connecting = connect(network.address, { signal: controller.signal })
  setTimeout(() => controller.abort(), 200)
  await t.throwsAsync(connecting, { code: 'ABORTED' })
})
