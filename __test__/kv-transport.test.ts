import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type KvOptions, type Server, serve } from 'xferd'
import type * as transports from '../src/kv/native-transport.js'
import type { KvAnswer, KvLine, KvTransport } from '../src/kv/transport.js'
import type * as addon from '../src/native.js'
import type { NativeClient, NativeServer, RawKvClientOptions } from '../src/native.js'
import { folder } from './fixture.js'

// What the package does not export: this is what a KvClient stands on.
const { openInsideTransport, openKvTransport, openSharedTransport }: typeof transports = require(
  join(process.cwd(), 'dist', 'kv', 'native-transport.js'),
)

const { native }: typeof addon = require(join(process.cwd(), 'dist', 'native.js'))

type Opened = { server: Server; transport: transports.NativeTransport }

/** A server of nothing but keys, and a way to it. */
async function keys(
  t: ExecutionContext,
  kv: KvOptions = {},
  options: RawKvClientOptions = {},
): Promise<Opened> {
  const server = await serve({ listen: ['kv://127.0.0.1:0'], kv })
  t.teardown(() => server.close({ graceMs: 0 }))
  const transport = await openKvTransport(server.addresses[0], options)
  t.teardown(() => transport.close())
  return { server, transport }
}

/** Keys of a server in this process, and the server as the addon has it. */
async function inside(t: ExecutionContext, listen: string[], kv?: KvOptions) {
  const options = { listen, root: folder(t), ...(kv && { kv }) }
  const started = native().startServer(options, () => void server.drain())
  const server = started.server as NativeServer
  t.teardown(() => server.close(0))
  const transport = openInsideTransport(server)
  t.teardown(() => transport.close())
  return { server: { addresses: () => server.addresses()[0] as string }, transport }
}

function encoded(...commands: string[]): Buffer {
  const request = (words: string[]): string =>
    `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`
  return Buffer.from(commands.map((command) => request(command.split(' '))).join(''))
}

function ask(way: KvTransport | KvLine, ...commands: string[]): Promise<string> {
  return shown(way.call(encoded(...commands), commands.length))
}

/** Asks again until that is the answer. */
async function until(answer: string, again: () => Promise<string>): Promise<void> {
  while ((await again()) !== answer);
}

async function shown(answer: Promise<KvAnswer>): Promise<string> {
  const { replies, error } = await answer
  return replies.toString().replaceAll('\r\n', ' ') + (error ? error.code : '')
}

test('a batch is answered whole and in order', async (t) => {
  const { transport } = await keys(t, { password: 'secret' }, { password: 'secret' })
  t.regex(transport.backend.name, /^(mio|uring)$/)
  t.is(
    await ask(transport, 'SET k 5', 'INCR k', 'GET k', 'NONSENSE').then((text) => text.slice(0, 14)),
    '+OK :6 $1 6 -E',
  )
  const calls = Array.from({ length: 1000 }, (_, number) => ask(transport, `ECHO ${number}`))
  t.deepEqual(
    await Promise.all(calls),
    calls.map((_, number) => `$${`${number}`.length} ${number} `),
  )
  const value = Buffer.alloc(5_000_000, 'v')
  const large = Buffer.concat([
    Buffer.from('*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000000\r\n'),
    value,
    Buffer.from('\r\n'),
  ])
  t.is(await shown(transport.call(large, 1)), '+OK ')
  const { replies } = await transport.call(encoded('GET k'), 1)
  t.true(replies.subarray('$5000000\r\n'.length, -2).equals(value))
})

test('what was not answered has a reason', async (t) => {
  const { server, transport } = await keys(t, {}, { timeoutMs: 200 })
  const signal = AbortSignal.abort(new Error('why not'))
  const { replies, error } = await transport.call(encoded('PING'), 1, signal)
  t.deepEqual([replies.length, error?.code, error?.message], [0, 'ABORTED', 'aborted: why not'])
  const controller = new AbortController()
  const line = await transport.lease()
  // Nobody answers it: one reply too many is waited for.
  const late = line.call(encoded('PING'), 2, controller.signal)
  t.is(await ask(transport, 'PING'), '+PONG ')
  controller.abort()
  t.is((await late).error?.code, 'ABORTED')
  await server.close({ graceMs: 0 })
  t.regex(await ask(transport, 'PING'), /^CONNECTION_(LOST|REFUSED)$/)
  await transport.close()
  await transport.close()
  t.is(await ask(transport, 'PING'), 'ABORTED')
  await t.throwsAsync(transport.lease(), { code: 'ABORTED' })
})

test('where there are no keys the error says so', async (t) => {
  const { server } = await keys(t)
  await server.close({ graceMs: 0 })
  const transport = await openKvTransport(server.addresses[0])
  t.teardown(() => transport.close())
  const { error } = await transport.call(encoded('PING'), 1)
  t.is(error?.code, 'CONNECTION_REFUSED')
  t.true(error?.retryable)
  t.regex(error?.message ?? '', /xferd serve --listen kv:/)
  await t.throwsAsync(transport.lease(), { code: 'CONNECTION_REFUSED' })
  for (const address of [
    'xfer://127.0.0.1',
    'kv://',
    'kv://127.0.0.1/keys',
    'redis://127.0.0.1',
    '127.0.0.1',
  ]) {
    await t.throwsAsync(openKvTransport(address), { code: 'INVALID_ARGUMENT' }, address)
  }
  await t.throwsAsync(openKvTransport('kv://127.0.0.1', { connections: 0 }), { code: 'INVALID_ARGUMENT' })
})

test('a leased connection keeps its state and hears what is published', async (t) => {
  const { transport } = await keys(t)
  await leases(t, transport)
})

test('the keys of a server in this process are reached without a connection', async (t) => {
  const { server, transport } = await inside(t, ['kv://127.0.0.1:0'], { password: 'secret' })
  t.is(await ask(transport, 'SET k 5', 'INCR k', 'GET k'), '+OK :6 $1 6 ')
  t.regex(await ask(transport, 'CLIENT LIST'), /addr=same-process/)
  const outside = await openKvTransport(server.addresses(), { password: 'secret' })
  t.teardown(() => outside.close())
  t.is(await ask(outside, 'INCR k'), ':7 ')
  t.is(await shown(transport.call(Buffer.from('*1\r\n$4\r\nPI'), 1)), 'INVALID_ARGUMENT')
  await leases(t, transport)
  // Who was ended by others begins anew.
  t.regex(await ask(outside, 'CLIENT KILL TYPE normal'), /^:[1-9]/)
  t.is(await ask(transport, 'PING'), 'CONNECTION_LOST')
  t.is(await ask(transport, 'GET k'), '$1 1 ')
  const signal = AbortSignal.abort(new Error('why not'))
  t.is((await transport.call(encoded('PING'), 1, signal)).error?.message, 'aborted: why not')
  await transport.close()
  t.is(await ask(transport, 'PING'), 'ABORTED')
})

test('what is answered inside is on the disk, and replies keep their order', async (t) => {
  const dir = folder(t)
  const { transport } = await inside(t, ['xfer://127.0.0.1:0'], { dir, fsync: 'always' })
  const answers = await Promise.all(Array.from({ length: 200 }, () => ask(transport, 'INCR n', 'PING')))
  t.deepEqual(
    answers,
    answers.map((_, index) => `:${index + 1} +PONG `),
  )
  await leases(t, transport)
  await transport.close()
})

test('keys go over the connections that move files', async (t) => {
  const { server, transport } = await inside(t, ['xfer://127.0.0.1:0'], { password: 'secret' })
  const files = native().openClient(server.addresses(), {}, () => void beside.drain())
  const beside = files.client as NativeClient
  const keys = openSharedTransport(beside, { password: 'secret', name: 'both' })
  t.is(await ask(keys, 'SET k 5', 'INCR k', 'GET k'), '+OK :6 $1 6 ')
  t.regex(await ask(transport, 'CLIENT LIST'), /name=both/)
  const value = Buffer.alloc(300_000, 'v')
  const large = Buffer.concat([
    Buffer.from('*3\r\n$3\r\nSET\r\n$1\r\nl\r\n$300000\r\n'),
    value,
    Buffer.from('\r\n'),
  ])
  t.is(await shown(keys.call(large, 1)), '+OK ')
  t.true((await keys.call(encoded('GET l'), 1)).replies.includes(value))
  await leases(t, keys)
  const stranger = openSharedTransport(beside)
  t.is(await ask(stranger, 'PING'), 'PERMISSION')
  await stranger.close()
  t.is(await ask(keys, 'PING'), '+PONG ')
  beside.close()
  await until('ABORTED', () => ask(keys, 'PING'))
  await keys.close()
})

test('a server without keys says so inside as well', async (t) => {
  await t.throwsAsync(inside(t, ['xfer://127.0.0.1:0']), { code: 'UNSUPPORTED', message: /kv:\/\// })
})

/** What holds wherever keys are. */
async function leases(t: ExecutionContext, transport: KvTransport): Promise<void> {
  const [line, other] = await Promise.all([transport.lease(), transport.lease()])
  t.is(await ask(line, 'WATCH k'), '+OK ')
  t.is(await ask(transport, 'SET k 1'), '+OK ')
  t.is(await ask(line, 'MULTI', 'INCR k', 'EXEC'), '+OK +QUEUED _ ')
  // The answer to what follows says that it has begun.
  t.is(await shown(line.call(encoded('SUBSCRIBE news', 'PING'), 1)), '+PONG ')
  const heard: string[] = []
  const listening = (async () => {
    for await (const pushes of line.pushes()) heard.push(pushes.toString())
  })()
  t.is(await ask(transport, 'PUBLISH news today'), ':1 ')
  t.is(await ask(line, 'PING'), '+PONG ')
  await line.close()
  await listening
  t.is(heard.join('').replaceAll('\r\n', ' '), '>3 $9 subscribe $4 news :1 >3 $7 message $4 news $5 today ')
  t.is(await ask(line, 'PING'), 'ABORTED')
  // The server hears of it in its own time.
  await until(':0 ', () => ask(transport, 'PUBLISH news today'))
  const broken = t.throwsAsync(other.pushes()[Symbol.asyncIterator]().next(), { code: 'CONNECTION_LOST' })
  const id = (await ask(other, 'CLIENT ID')).trim().slice(1)
  t.is(await ask(transport, `CLIENT KILL ID ${id}`), ':1 ')
  await broken
}
